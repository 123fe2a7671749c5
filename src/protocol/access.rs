//! Who may use a route: declared in the route table, for each method.

use crate::middleware::auth::Scope;

/// Who may use one method of a route. There is no row without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: probes, which know no secrets.
    Public,
    /// Whoever has the scope for any model: it tells nothing about models.
    Server(Scope),
    /// Whoever has the scope for the model in the path, or in the message.
    Model(Scope),
    /// Whoever has the scope for the default model.
    Default(Scope),
    /// Whoever has the scope for every model: it is about all of them.
    Every(Scope),
    /// As `Every(Read)`, unless the operator shows the metrics to everybody.
    Metrics,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Server(scope) => write!(f, "{scope} server"),
            Self::Model(scope) => write!(f, "{scope} model"),
            Self::Default(scope) => write!(f, "{scope} default"),
            Self::Every(scope) => write!(f, "{scope} every"),
            Self::Metrics => f.write_str("read every (metrics)"),
        }
    }
}
