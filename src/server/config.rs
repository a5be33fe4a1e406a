//! Configuration: a TOML file, then the environment, then the command line; the later wins.
//!
//! Every value has one dotted name (`listen.http`), the same in the file, as `TERN_LISTEN__HTTP`
//! and in errors. A name that is not known is an error that names the nearest one.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::cookie::judge_cookie;
use cluster::identity::{NodeName, PeerAddress};
use host::forming::Beginning;
use lorawan::{NetId, Region};
use mac::ChannelSet;
use toml::Value;
use zeroize::Zeroizing;

use crate::run::{ClusterSettings, ServeSettings};
use crate::world::Family;

/// Every name, with its default and one sentence: what `tern serve --help` teaches.
pub const NAMES: [(&str, &str, &str); 27] = [
    ("data", "./tern-data", "data folder"),
    ("region", "", "region of the devices: EU868 or US915; there is no default"),
    ("channels", "", "uplink channels of a fixed plan, like 8-15+65"),
    ("net_id", "000000", "network identifier, 6 hexadecimal digits"),
    ("port_offset", "0", "added to every port below"),
    ("listen.gateways", "0.0.0.0:1700, 0.0.0.0:1680", "gateways, UDP"),
    ("listen.mqtt", "0.0.0.0:1883", "MQTT clients, TCP"),
    ("listen.http", "0.0.0.0:8080", "HTTP clients, TCP"),
    ("uplink.deduplication", "200ms", "how long copies of a frame are collected"),
    ("downlink.wait", "100ms", "how long an application may take to answer an uplink"),
    ("downlink.gateway_delay", "200ms", "head start of a frame on its way to the gateway"),
    (
        "listen.peers",
        "0.0.0.0:6369-7369",
        "other nodes, TCP: the first port of the range that is free",
    ),
    ("mqtt.connections_max", "5000", "MQTT connections at a time"),
    ("mqtt.session_expiry", "7d", "how long a persistent session outlives its connection"),
    ("http.connections_max", "1024", "HTTP connections at a time"),
    ("storage.reserve", "64MiB", "disk space kept against the day it runs out"),
    ("node.name", "", "name of this node, name@host; tern@ and the host's name without it"),
    ("node.proto_dist", "inet_tcp", "peer links over IPv4 (inet_tcp) or IPv6 (inet6_tcp)"),
    ("cluster.name", "tern", "name of the cluster; the same on all its nodes"),
    (
        "cluster.cookie",
        "",
        "secret of the cluster; without it, the file cluster.cookie in the data folder",
    ),
    (
        "cluster.address",
        "",
        "where other nodes reach this one, host:port; without it, the host of its name",
    ),
    ("cluster.discovery", "off", "how an empty node finds others: off or static"),
    ("cluster.static.seeds", "", "addresses of the nodes that begin together, this one included"),
    ("cluster.ticktime", "10s", "a node that nobody has heard for so long is down"),
    ("cluster.join", "", "a running node that admits this one at its first start"),
    ("db_master", "", "the same as cluster.join"),
    ("log.level", "info", "error, warn, info, debug, trace, or per module"),
];

/// Variables of the environment that are not configuration.
const OTHER_VARIABLES: [&str; 4] = ["TERN_CONFIG", "TERN_URL", "TERN_TOKEN", "TERN_JSON"];
/// Longest configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A name that is not known.
    #[error("{place}: unknown key `{name}`: did you mean `{nearest}`?")]
    Unknown {
        /// File or environment.
        place: String,
        /// The name.
        name: String,
        /// The known name most like it.
        nearest: &'static str,
    },
    /// A value that cannot be used.
    #[error("{place}: {name}: {why}")]
    Value {
        /// File, environment or command line.
        place: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody said which region.
    #[error(
        "which region are the devices in? Set it with `--region EU868`, TERN_REGION=EU868, or \
         `region = \"EU868\"` in tern.toml; known are {known}"
    )]
    NoRegion {
        /// Regions this server knows.
        known: String,
    },
}

/// What `tern serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's part.
    pub serve: ServeSettings,
    /// HTTP connections at a time.
    pub http_connections_max: usize,
    /// What is logged, as `tracing` filters are written.
    pub log_level: String,
}

/// Values by name, each with where it came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    values: BTreeMap<&'static str, (String, String)>,
}

impl Source {
    /// The defaults.
    pub fn defaults() -> Self {
        let mut source = Self::default();
        for (name, value, _) in NAMES {
            source.values.insert(name, ("default".into(), value.to_owned()));
        }
        source
    }

    /// Adds a file.
    ///
    /// * Errors: no such file, not TOML, a name that is not known.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = |why: String| ConfigError::File { path: path.to_owned(), why };
        let length = std::fs::metadata(path).map_err(|error| file(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(file(format!("{length} bytes are no configuration")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        self.add_toml(&path.display().to_string(), &text)
    }

    /// Adds a TOML text.
    ///
    /// * Errors: not TOML, a name that is not known.
    pub fn add_toml(&mut self, place: &str, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let why = error.to_string();
            ConfigError::File { path: place.into(), why }
        })?;
        self.add_table(place, "", table)
    }

    fn add_table(
        &mut self,
        place: &str,
        prefix: &str,
        table: toml::Table,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => self.add_table(place, &name, inner)?,
                Value::Array(items) => {
                    let items = items.iter().map(plain).collect::<Vec<_>>();
                    self.add(place, &name, items.join(","))?;
                }
                value @ (Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)) => self.add(place, &name, plain(&value))?,
            }
        }
        Ok(())
    }

    /// Adds the `TERN_..` variables of an environment.
    ///
    /// * Errors: a variable with `__` or close to a known name that is not one; others are left
    ///   alone, since container platforms set `TERN_..` variables of their own.
    pub fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("TERN_") else { continue };
            if OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let name = rest.to_lowercase().replace("__", ".");
            let near = strsim::damerau_levenshtein(&name, nearest(&name)) <= 2;
            if rest.contains("__") || near {
                self.add(&variable, &name, value)?;
            }
        }
        Ok(())
    }

    /// Adds one value.
    ///
    /// * Errors: a name that is not known.
    pub fn add(&mut self, place: &str, name: &str, value: String) -> Result<(), ConfigError> {
        let Some((known, ..)) = NAMES.iter().find(|(known, ..)| *known == name) else {
            return Err(ConfigError::Unknown {
                place: place.to_owned(),
                name: name.to_owned(),
                nearest: nearest(name),
            });
        };
        self.values.insert(known, (place.to_owned(), value));
        Ok(())
    }

    /// The node's place among others.
    fn cluster(&self, offset: u16) -> Result<ClusterSettings, ConfigError> {
        let host = host_name();
        let name = self.read("node.name", |text| {
            let text = if text.is_empty() { "tern" } else { text };
            NodeName::parse_with_host(text, &host).map_err(|error| error.to_string())
        })?;
        let family = self.read("node.proto_dist", |text| match text {
            "inet_tcp" => Ok(Family::V4),
            "inet6_tcp" => Ok(Family::V6),
            "inet_tls" | "inet6_tls" => {
                Err(format!("`{text}` is not there yet; inet_tcp and inet6_tcp are encrypted, too"))
            }
            _ => Err(format!("`{text}` is none of inet_tcp, inet6_tcp")),
        })?;
        let mut listen = self.read("listen.peers", |text| port_range(text, offset))?;
        let given = self.values.get("listen.peers").is_some_and(|(place, _)| place != "default");
        if family == Family::V6 && !given {
            listen.iter_mut().for_each(|one| one.set_ip(Ipv6Addr::UNSPECIFIED.into()));
        }
        let address = match self.text("cluster.address") {
            "" if name.host().contains(':') => format!("[{}]:0", name.host()),
            "" => format!("{}:0", name.host()),
            text => text.to_owned(),
        };
        let cookie = match self.text("cluster.cookie") {
            "" => None,
            text => Some(self.read("cluster.cookie", |_| {
                judge_cookie(text).map_err(|error| error.to_string())?;
                Ok(Zeroizing::new(text.to_owned()))
            })?),
        };
        let beginning = self.beginning()?;
        Ok(ClusterSettings {
            name: name.as_str().to_owned(),
            listen,
            address,
            family,
            cookie,
            beginning,
        })
    }

    /// How an empty node becomes a member of a cluster.
    fn beginning(&self) -> Result<Beginning, ConfigError> {
        let address = |text: &str| -> Result<PeerAddress, String> {
            let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
            text.parse().map_err(|error: cluster::identity::PeerAddressError| error.to_string())
        };
        let master =
            ["cluster.join", "db_master"].into_iter().find(|one| !self.text(one).is_empty());
        if let Some(master) = master {
            return self.read(master, address).map(Beginning::Join);
        }
        let seeds = self.read("cluster.static.seeds", |text| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(address).collect::<Result<Vec<_>, _>>()
        })?;
        self.read("cluster.discovery", |text| match text {
            "off" => Ok(Beginning::Alone),
            "static" if seeds.is_empty() => {
                Err("static discovery needs cluster.static.seeds".to_owned())
            }
            "static" => Ok(Beginning::Seeds(seeds.clone())),
            _ => Err(format!("`{text}` is none of off, static")),
        })
    }

    fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(_, value)| value.trim())
    }

    /// A value, read.
    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        read(self.text(name)).map_err(|why| ConfigError::Value {
            place: self.values.get(name).map_or_else(String::new, |(place, _)| place.clone()),
            name: name.to_owned(),
            why,
        })
    }

    /// Everything together.
    ///
    /// * Errors: a value that cannot be used; no region.
    pub fn finish(&self) -> Result<Config, ConfigError> {
        if self.text("region").is_empty() {
            let known: Vec<_> = lorawan::REGIONS.iter().map(|region| region.name).collect();
            return Err(ConfigError::NoRegion { known: known.join(", ") });
        }
        let offset = self.read("port_offset", number::<u16>)?;
        let shifted = |name: &str| self.read(name, |text| addresses(text, offset));
        let one = |name: &str| {
            let all = shifted(name)?;
            self.read(name, |_| match all.as_slice() {
                [only] => Ok(*only),
                _ => Err("one address is needed".to_owned()),
            })
        };
        let region = self.read("region", |text| {
            Region::from_name(text).map(|region| region.name.to_owned()).map_err(|e| e.to_string())
        })?;
        let serve = ServeSettings {
            data: PathBuf::from(self.text("data")),
            gateways: shifted("listen.gateways")?,
            mqtt: one("listen.mqtt")?,
            http: one("listen.http")?,
            connections_max: self.read("mqtt.connections_max", number)?,
            region,
            channels: self.read("channels", |text| match text {
                "" => Ok(None),
                text => text.parse::<ChannelSet>().map(Some).map_err(|error| error.to_string()),
            })?,
            net_id: self.read("net_id", |text| text.parse::<NetId>().map_err(|e| e.to_string()))?,
            dedup: self.read("uplink.deduplication", duration)?,
            downlink_wait: self.read("downlink.wait", duration)?,
            gateway_delay: self.read("downlink.gateway_delay", duration)?,
            session_expiry_s: self.read("mqtt.session_expiry", |text| {
                u32::try_from(duration(text)?.as_secs()).map_err(|_| "this is too long".to_owned())
            })?,
            cluster_name: self.text("cluster.name").to_owned(),
            ticktime: self.read("cluster.ticktime", |text| {
                let time = duration(text)?;
                let least = cluster::detector::TICKTIME_MIN;
                if time < least { Err("at least 800ms is needed".to_owned()) } else { Ok(time) }
            })?,
            cluster: self.cluster(offset)?,
            reserve_bytes: self.read("storage.reserve", bytes)?,
        };
        Ok(Config {
            serve,
            http_connections_max: self.read("http.connections_max", number)?,
            log_level: self.text("log.level").to_owned(),
        })
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The known name most like `name`.
fn nearest(name: &str) -> &'static str {
    let known = NAMES.iter().map(|(known, ..)| *known);
    known.min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or("region")
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number that fits here"))
}

/// `200ms`, `5s`, `10m`, `2h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let why = || format!("`{text}` is not a duration like 200ms, 5s, 10m, 2h or 7d");
    let split = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(why)?;
    let (digits, unit) = text.split_at(split);
    let count: u64 = digits.parse().map_err(|_| why())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(why()),
    };
    count.checked_mul(millis).map(Duration::from_millis).ok_or_else(why)
}

/// `64MiB`, `1GiB`, `512KiB`, or bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let why = || format!("`{text}` is not an amount like 64MiB");
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let count: u64 = digits.parse().map_err(|_| why())?;
    let size = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(why()),
    };
    count.checked_mul(size).ok_or_else(why)
}

/// The host's name, as the kernel has it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// `0.0.0.0:6369-7369`, or one port; port 0 lets the system choose.
fn port_range(text: &str, offset: u16) -> Result<Vec<SocketAddr>, String> {
    let Some((head, last)) = text.rsplit_once('-').filter(|(head, _)| head.contains(':')) else {
        return addresses(text, offset);
    };
    let first = match addresses(head, 0)?.as_slice() {
        [only] => *only,
        _ => return Err("one address is needed".to_owned()),
    };
    let last: u16 = last.trim().parse().map_err(|_| format!("`{last}` is no port"))?;
    if last < first.port() || first.port() == 0 {
        return Err(format!("{} to {last} is no range of ports", first.port()));
    }
    (first.port()..=last)
        .map(|port| {
            let port = port.checked_add(offset).ok_or(format!("{port} + {offset} is no port"))?;
            Ok(SocketAddr::new(first.ip(), port))
        })
        .collect()
}

/// Addresses joined by commas, their ports shifted; port 0 lets the system choose and stays.
fn addresses(text: &str, offset: u16) -> Result<Vec<SocketAddr>, String> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut address: SocketAddr = part
            .parse()
            .map_err(|_| format!("`{part}` is not an address like 0.0.0.0:8080 or [::]:8080"))?;
        if address.port() != 0 {
            let port = address.port().checked_add(offset);
            address.set_port(port.ok_or_else(|| format!("{part} + {offset} is no port"))?);
        }
        all.push(address);
    }
    if all.is_empty() { Err("an address is needed".into()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<Source, ConfigError> {
        let mut source = Source::defaults();
        source.add_toml("tern.toml", text).map(|()| source)
    }

    fn environment(pairs: &[(&str, &str)]) -> Result<Source, ConfigError> {
        let mut source = source("region = \"EU868\"")?;
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        source.add_environment(pairs).map(|()| source)
    }

    #[test]
    fn defaults_need_a_region_and_nothing_else() {
        let error = Source::defaults().finish().unwrap_err().to_string();
        assert!(error.contains("region = \"EU868\"") && error.contains("US915"), "{error}");
        let config = source("region = \"eu868\"").unwrap().finish().unwrap();
        assert_eq!(config.serve.region, "EU868");
        let ports: Vec<_> = config.serve.gateways.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [1700, 1680]);
        assert_eq!(config.serve.session_expiry_s, 604_800);
        assert_eq!(config.serve.reserve_bytes, 64 << 20);
    }

    #[test]
    fn a_file_sets_what_it_names_and_the_offset_moves_every_port() {
        let config = source(
            "region = \"US915\"\nchannels = \"8-15+65\"\nport_offset = 100\n[listen]\n\
             gateways = [\"[::1]:1700\"]\nhttp = \"127.0.0.1:0\"\n[downlink]\nwait = \"0ms\"\n",
        );
        let config = config.unwrap().finish().unwrap();
        assert_eq!(config.serve.gateways, ["[::1]:1800".parse().unwrap()]);
        assert_eq!((config.serve.mqtt.port(), config.serve.http.port()), (1983, 0));
        assert_eq!(config.serve.downlink_wait, Duration::ZERO);
        assert_eq!(config.serve.channels.map(|set| set.to_string()), Some("8-15+65".into()));
    }

    #[test]
    fn a_misspelt_name_is_an_error_that_names_the_nearest() {
        for (text, name, nearest) in [
            ("regoin = \"EU868\"", "regoin", "region"),
            ("[listen]\nhtpp = \"x\"", "listen.htpp", "listen.http"),
            ("[downlink]\nwiat = \"1s\"", "downlink.wiat", "downlink.wait"),
        ] {
            let error = source(text).unwrap_err();
            let expected =
                ConfigError::Unknown { place: "tern.toml".into(), name: name.into(), nearest };
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn the_environment_wins_and_only_its_own_names_count() {
        let config = environment(&[
            ("TERN_LISTEN__HTTP", "127.0.0.1:9000"),
            ("TERN_PORT_OFFSET", "1"),
            ("TERN_CONFIG", "x"),
            ("TERN_SERVICE_HOST", "10.0.0.1"),
            ("TERN_PORT_1883_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ]);
        let config = config.unwrap().finish().unwrap();
        assert_eq!(config.serve.http.port(), 9001);
        for wrong in ["TERN_LISTEN__HTPP", "TERN_REGOIN", "TERN_MQTT__X"] {
            assert!(environment(&[(wrong, "x")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_says_where_it_stands() {
        for (text, name) in [
            ("port_offset = 70000", "port_offset"),
            ("[listen]\nhttp = \"8080\"", "listen.http"),
            ("[listen]\nmqtt = [\"0.0.0.0:1\", \"0.0.0.0:2\"]", "listen.mqtt"),
            ("port_offset = 65000", "listen.gateways"),
            ("[downlink]\nwait = \"1 week\"", "downlink.wait"),
            ("[downlink]\nwait = 5", "downlink.wait"),
            ("[storage]\nreserve = \"99999999999GiB\"", "storage.reserve"),
            ("net_id = \"xyz\"", "net_id"),
            ("channels = \"a\"", "channels"),
        ] {
            let text = format!("region = \"EU868\"\n{text}");
            let error = source(&text).and_then(|source| source.finish()).unwrap_err();
            let ConfigError::Value { name: seen, .. } = &error else { panic!("{error}") };
            assert_eq!(seen, name, "{error}");
        }
        assert!(matches!(source("region = \n"), Err(ConfigError::File { .. })));
    }
}
