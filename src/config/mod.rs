//! Settings: where they come from, how they are checked, and what is said when one is wrong.
//!
//! ```text
//! defaults < file < environment < flags      every value keeps its origin; variables of platforms (platforms.rs)
//!                                            are weaker than our own
//!      \      |         |         /
//!       one table of keys (keys.rs): kind, default, flag, help
//!                  |
//!       Loaded: typed Settings, and (key, value, origin) for messages and `--check-config`
//! ```

mod engines;
mod environment;
mod error;
mod file;
mod keys;
mod load_options;
pub(crate) mod memory;
mod model_options;
mod path;
pub(crate) mod payload_log;
mod platforms;
mod registry_access;
mod request_limits;
pub(crate) mod seals;
pub(crate) mod secret;
mod settings;
mod show;
pub(crate) mod traces;
mod trust;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

pub use engines::{LibraryPlace, custom_operators, engines, library_search};
pub use error::ConfigError;
pub use keys::{KEYS, KeyDef, reference};
pub(crate) use load_options::load_options;
pub(crate) use model_options::model_options;
pub use path::{KeyPath, Origin};
pub use payload_log::{FeedbackSettings, PayloadLogSettings};
pub use platforms::{
    MULTI_MODEL, MULTI_MODEL_ROOT, PLATFORMS, Place, Platform, Provided, provided,
};
pub(crate) use registry_access::registry_access;
pub(crate) use request_limits::request_limits;
pub use settings::{
    BatchingSettings, EngineSettings, ExamplePolicy, Isolation, LimitSettings,
    ModelBatchingSettings, ModelSettings, NetworkSettings, Quirks, RegistrySettings,
    ServerSettings, Settings, SignaturePolicy, SwapOrder, TelemetrySettings,
};
pub use trust::{AuthSettings, ClientAuth, JwtSettings, TlsSettings, TlsVersion};
pub use value::{Kind, Raw};

use value::Value;

/// A flag of the command line that stands for a key.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// The row of the table of keys.
    pub def: &'static KeyDef,
    /// The flag as typed, such as `--port`.
    pub flag: String,
    /// Its value.
    pub raw: Raw,
}

/// Everything that settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The configuration file, when one is given.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags that were given, in order.
    pub flags: Vec<FlagValue>,
}

/// One key that has a value.
#[derive(Debug, Clone)]
struct Entry {
    def: &'static KeyDef,
    raw: Raw,
    origin: Origin,
}

/// Settings and the origin of each.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What was ignored, for the log.
    pub notices: Vec<String>,
    entries: BTreeMap<KeyPath, (Entry, Value)>,
}

/// Reads, merges and checks settings.
///
/// # Errors
/// [`ConfigError`], which names the key, the value, its origin and what was expected.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut merged = defaults();
    merged.extend(platforms::host(&inputs.environment));
    if let Some(file) = &inputs.file {
        merged.extend(file::read(file)?);
    }
    let models: Vec<String> = merged.keys().filter_map(KeyPath::model).collect();
    let environment = environment::read(&inputs.environment, &models)?;
    merged.extend(platforms::entries(&inputs.environment));
    merged.extend(environment.entries);
    merged.extend(inputs.flags.iter().map(|flag| {
        let origin = Origin::Flag(flag.flag.clone());
        let (def, raw) = (flag.def, flag.raw.clone());
        (def.path_for(""), Entry { def, raw, origin })
    }));
    let mut entries = BTreeMap::new();
    for (path, entry) in merged {
        let value = parse(&path, &entry)?;
        entries.insert(path, (entry, value));
    }
    let loaded = Loaded {
        settings: settings::build(&entries),
        notices: environment.notices,
        entries,
    };
    loaded.check_ports()?;
    Ok(loaded)
}

impl Default for Settings {
    fn default() -> Self {
        load(&Inputs::default())
            .expect("a test loads the defaults")
            .settings
    }
}

impl Loaded {
    /// Where the value of `path` comes from.
    pub fn origin(&self, path: &KeyPath) -> Origin {
        let entry = self.entries.get(path);
        entry.map_or(Origin::Default, |(entry, _)| entry.origin.clone())
    }

    /// The settings as TOML, each with its origin as a comment; passwords in addresses are left out.
    pub fn show(&self) -> String {
        show::show(&self.entries)
    }

    fn check_ports(&self) -> Result<(), ConfigError> {
        let server = &self.settings.server;
        if server.port == 0 || server.grpc_port != Some(server.port) {
            return Ok(());
        }
        let origin = |key| self.origin(&KeyPath::parse(key));
        Err(ConfigError::SamePort {
            port: server.port,
            http: origin("server.port"),
            grpc: origin("server.grpc_port"),
        })
    }
}

fn defaults() -> BTreeMap<KeyPath, Entry> {
    let of_server = KEYS.iter().filter(|def| !def.is_per_model());
    of_server
        .filter_map(|def| {
            let raw = Raw::Text(def.default?.to_owned());
            let origin = Origin::Default;
            Some((def.path_for(""), Entry { def, raw, origin }))
        })
        .collect()
}

fn parse(path: &KeyPath, entry: &Entry) -> Result<Value, ConfigError> {
    entry.def.kind.parse(&entry.raw).map_err(|problem| {
        let shown = entry.raw.to_string();
        ConfigError::InvalidValue {
            value: error::shorten(&shown),
            key: path.clone(),
            origin: entry.origin.clone(),
            expected: problem.expected.into(),
            hint: problem.hint.map(Into::into),
        }
    })
}

#[cfg(test)]
mod tests;
