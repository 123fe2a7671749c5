//! What a caller may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Pattern;

/// A kind of thing to do. None holds another: who may administer may not predict unless that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look: metadata, state, metrics.
    Read,
    /// Ask for predictions.
    Predict,
    /// Change what is served.
    Admin,
    /// Report what was true.
    Feedback,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Predict, Self::Admin, Self::Feedback];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Predict => "predict",
            Self::Admin => "admin",
            Self::Feedback => "feedback",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope `{0}`: expected `read`, `predict`, `admin` or `feedback`")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On<'a> {
    /// The server, in a way that reveals nothing about models.
    Server,
    /// One model.
    Model(&'a str),
    /// The model that answers where none is named: its name is nothing for those who may not use it.
    Default(&'a str),
    /// All models, also those that come later.
    EveryModel,
}

/// Scopes for models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub scopes: Vec<Scope>,
    /// To which models.
    pub models: Vec<Pattern>,
}

impl Grant {
    /// Every scope for every model.
    pub fn all() -> Self {
        Self {
            scopes: Scope::ALL.to_vec(),
            models: vec![Pattern::all()],
        }
    }

    fn allows(&self, scope: Scope, on: On<'_>) -> bool {
        let fits = |pattern: &Pattern| match on {
            On::Server => true,
            On::Model(name) | On::Default(name) => pattern.matches(name),
            On::EveryModel => pattern.is_all(),
        };
        self.scopes.contains(&scope) && self.models.iter().any(fits)
    }
}

/// A caller that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For the audit log.
    pub name: String,
    /// Who says that it has this name, for the audit log: [`CALLERS_FILE`](Self::CALLERS_FILE), or the issuer of a token.
    pub issuer: String,
    /// Tells it from every other one, whoever issued that: the name alone may be chosen by somebody else.
    id: String,
    /// What it may do: what any of them allows.
    pub grants: Vec<Grant>,
}

impl Identity {
    /// The longest name in a line of the log.
    const LONGEST_NAME: usize = 200;

    /// The issuer of those in the file of callers, and of the operator.
    pub const CALLERS_FILE: &'static str = "callers";

    /// An identity of the file of callers.
    pub fn new(name: &str, grants: Vec<Grant>) -> Self {
        Self::issued_by(Self::CALLERS_FILE, ("name", name), grants)
    }

    /// An identity that `issuer` vouches for, under the name in this claim. The name, which may come from elsewhere, can
    /// forge no line of a log.
    pub fn issued_by(issuer: &str, (claim, name): (&str, &str), grants: Vec<Grant>) -> Self {
        let shown = |text: &str| {
            let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            text.chars().take(Self::LONGEST_NAME).map(shown).collect()
        };
        Self {
            name: shown(name),
            issuer: shown(issuer),
            id: format!("{issuer}\0{claim}\0{name}"),
            grants,
        }
    }

    /// What limits and judgements count it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it may do this.
    pub fn may(&self, scope: Scope, on: On<'_>) -> bool {
        self.grants.iter().any(|grant| grant.allows(scope, on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(scopes: &[Scope], models: &[&str]) -> Identity {
        let models = models.iter().map(|model| model.parse().unwrap()).collect();
        let scopes = scopes.to_vec();
        Identity::new("a", vec![Grant { scopes, models }])
    }

    #[test]
    fn a_grant_is_for_its_scopes_and_its_models() {
        let some = identity(&[Scope::Predict], &["fraud-*", "iris"]);
        assert!(some.may(Scope::Predict, On::Model("iris")));
        assert!(some.may(Scope::Predict, On::Model("fraud-2")));
        assert!(some.may(Scope::Predict, On::Server));
        assert!(!some.may(Scope::Predict, On::Model("digits")));
        assert!(!some.may(Scope::Predict, On::EveryModel));
        assert!(!some.may(Scope::Read, On::Model("iris")));
        assert!(!some.may(Scope::Read, On::Server));
    }

    #[test]
    fn no_scope_holds_another() {
        for granted in Scope::ALL {
            let identity = identity(&[granted], &["*"]);
            for asked in Scope::ALL {
                for on in [On::Server, On::Model("x"), On::EveryModel] {
                    assert_eq!(identity.may(asked, on), asked == granted);
                }
            }
        }
    }

    #[test]
    fn the_same_name_of_another_issuer_is_somebody_else() {
        let file = Identity::new("shop", Vec::new());
        let token = |issuer: &str, claim: &str| {
            let identity = Identity::issued_by(issuer, (claim, "shop"), Vec::new());
            assert_eq!(identity.name, file.name);
            identity.id().to_owned()
        };
        let ids = [
            file.id().to_owned(),
            token("https://a", "sub"),
            token("https://b", "sub"),
            token("https://a", "client_id"),
        ];
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
        // Also where their beginnings are all that a line shows.
        let long = |end: &str| Identity::new(&format!("{}{end}", "x".repeat(500)), Vec::new());
        assert_eq!(long("a").name, long("b").name);
        assert_ne!(long("a").id(), long("b").id());
    }

    #[test]
    fn a_name_forges_no_line() {
        let name = format!("a\nb{}", "x".repeat(1000));
        let identity = Identity::new(&name, Vec::new());
        assert!(identity.name.starts_with("a\u{fffd}b"));
        assert_eq!(identity.name.chars().count(), Identity::LONGEST_NAME);
    }
}
