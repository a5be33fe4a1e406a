//! A scenario: one story as a TOML file, without a line of Rust.
//!
//! ```toml
//! title = "Power goes while an uplink is being decided"
//! duration = "2m"
//! settle = "30s"
//!
//! [gateways]
//! count = 2
//! hears = 0.9
//!
//! [devices]
//! count = 3
//!
//! [workload]
//! uplink_every = "10s..20s"
//! confirmed = 0.5
//!
//! [[fault]]
//! kind = "power_cut"
//! node = "n1"
//! at = "20s..80s"
//! lasts = "2s..5s"
//!
//! [expect]
//! joined = 3
//! ```
//!
//! [`Scenario::parse`] reads one, refusing what it does not know and what cannot be, with file,
//! line and the nearest known key. [`Scenario::to_toml`] writes one. [`page`] makes the JSON schema
//! and the page of all keys out of the comments of these types. What a scenario *does* is the
//! simulator's; here is no time, no dice and no runtime.

mod check;
mod error;
mod fault;
pub mod page;
mod partition;
mod tables;
mod value;

use std::path::Path;

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub use error::ScenarioError;
pub use fault::{Fault, FaultKind, Key, Promise, Reach, Shape};
pub use tables::{
    Bounds, Callers, Clients, DeviceVersion, Devices, Disk, Expect, Gateways, Link, Network, Nodes,
    Workload,
};
pub use value::{Numbers, Share, Span, SpanRange};

/// Largest scenario file, in bytes.
pub const TEXT_LEN_MAX: usize = 256 * 1024;

/// A whole scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line that says what is put to the test.
    pub title: String,
    /// How long faults and workload go on, in virtual time.
    pub duration: Span,
    /// How long the world then has to come to rest, without faults: what must arrive, arrives.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// Seeds that `make test` runs beside its usual ones: each once showed a fault that is fixed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// A deliberate bug that is planted, by the name that `cargo sim sabotage` shows.
    pub plant: Option<String>,
    /// The checker that must object. A run in which it does not is a failure.
    pub violates: Option<String>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nodes: Nodes,
    /// Every link between any two hosts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Every node's disk.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disk: Disk,
    /// The gateways.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gateways: Gateways,
    /// The devices.
    #[serde(default, skip_serializing_if = "is_default")]
    pub devices: Devices,
    /// The MQTT clients.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clients: Clients,
    /// Callers of the API, whose answers are checked for linearizability.
    #[serde(default, skip_serializing_if = "is_default")]
    pub callers: Callers,
    /// What devices and applications do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workload: Workload,
    /// Single links that differ from `[network]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<Link>,
    /// What goes wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<Fault>,
    /// What must have happened at the end, beside the invariants.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: Expect,
    /// How soon and within what the world must recover.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bounds: Bounds,
}

fn default_settle() -> Span {
    Span(std::time::Duration::from_secs(30))
}

fn is_default<T: Default + PartialEq>(table: &T) -> bool {
    *table == T::default()
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// Errors: what cannot be read, is not TOML, has an unknown key or an impossible value, with
    /// file, line and, for a key, the nearest known one.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ScenarioError::Read { file: name.clone(), why: error.to_string() })?;
        Self::parse(&name, &text)
    }

    /// Reads a scenario out of `text`; `file` is what errors call it.
    ///
    /// Errors: as [`Self::load`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        if text.len() > TEXT_LEN_MAX {
            return Err(ScenarioError::TooLarge { file: file.to_owned(), len: text.len() });
        }
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::from_toml(file, text, &error))?;
        check::scenario(file, &scenario, &Lines::of(text))?;
        Ok(scenario)
    }

    /// The scenario as a file, without comments; it reads back equal.
    ///
    /// Errors: none that a scenario which was read could cause.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// The names of all hosts: nodes first, then gateways, then clients.
    pub fn hosts(&self) -> Vec<String> {
        named("n", self.nodes.count)
            .chain(named("gw", self.gateways.total()))
            .chain(named("app", self.clients.total()))
            .collect()
    }
}

/// `prefix1`, `prefix2`, ...
pub(crate) fn named(prefix: &'static str, count: u32) -> impl Iterator<Item = String> {
    (1..=count).map(move |number| format!("{prefix}{number}"))
}

/// Where tables begin, for what is found wrong after parsing.
pub(crate) struct Lines {
    pub(crate) faults: Vec<usize>,
    pub(crate) links: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Tables {
            #[serde(default)]
            fault: Vec<toml::Spanned<IgnoredAny>>,
            #[serde(default)]
            link: Vec<toml::Spanned<IgnoredAny>>,
        }
        let lines = |tables: &[toml::Spanned<IgnoredAny>]| {
            tables.iter().map(|table| error::line_of(text, table.span().start)).collect()
        };
        toml::from_str::<Tables>(text).map_or_else(
            |_| Self { faults: Vec::new(), links: Vec::new() },
            |tables| Self { faults: lines(&tables.fault), links: lines(&tables.link) },
        )
    }
}
