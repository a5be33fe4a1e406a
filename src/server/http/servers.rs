//! The members as the field's older servers list them: what this host knows of itself, and who is
//! disconnected.
//!
//! Fields and names of alerts: requirements L6 and L15.

use std::path::Path;

use node::api::wire::{ClusterInfo, MemberInfo};
use serde_json::{Value, json};

/// Above so many percent of memory or disk in use there is an alert.
const ALMOST_FULL_PERCENT: u64 = 80;

/// One object of the list.
pub(super) fn sample() -> Value {
    json!({"sname": "", "router_perf": [], "modules": {}, "memory": {}, "disk": [],
        "health_alerts": [], "health_decay": 0})
}

/// The whole list.
///
/// * `data`: the folder whose disk counts.
pub(super) fn list(cluster: &ClusterInfo, data: Option<&Path>) -> Value {
    let one = |member: &MemberInfo| {
        let own = member.node_id == cluster.node_id;
        let mut alerts = Vec::new();
        let mut server = json!({"sname": member.name});
        if own {
            let memory = Memory::read();
            let disk = data.and_then(Disk::read);
            alerts.extend(memory.alert());
            alerts.extend(disk.as_ref().and_then(Disk::alert));
            if cluster.leader.is_none() {
                alerts.push("raft_no_leader");
            }
            server["router_perf"] = json!([]);
            server["modules"] = json!({"tern": env!("CARGO_PKG_VERSION")});
            server["memory"] = memory.json();
            server["disk"] = disk.map_or_else(|| json!([]), |disk| json!([disk.json()]));
        } else if !member.running {
            alerts.push("disconnected");
        }
        let decay = if alerts == ["disconnected"] { 100 } else { alerts.len() };
        server["health_alerts"] = json!(alerts);
        server["health_decay"] = json!(decay);
        server
    };
    Value::Array(cluster.members.iter().map(one).collect())
}

/// The host's memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    total: u64,
    free: u64,
    available: u64,
    buffered: u64,
    cached: u64,
    total_swap: u64,
    free_swap: u64,
}

impl Memory {
    fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        Self {
            total: field("MemTotal"),
            free: field("MemFree"),
            available: field("MemAvailable"),
            buffered: field("Buffers"),
            cached: field("Cached"),
            total_swap: field("SwapTotal"),
            free_swap: field("SwapFree"),
        }
    }

    fn alert(&self) -> Option<&'static str> {
        let used = self.total.saturating_sub(self.available);
        is_almost_full(used, self.total).then_some("system_memory_high_watermark")
    }

    fn json(&self) -> Value {
        json!({
            "total_memory": self.total,
            "system_total_memory": self.total,
            "free_memory": self.free,
            "available_memory": self.available,
            "buffered_memory": self.buffered,
            "cached_memory": self.cached,
            "total_swap": self.total_swap,
            "free_swap": self.free_swap,
        })
    }
}

/// The disk under the data folder.
#[derive(Clone, Debug)]
struct Disk {
    id: String,
    size: u64,
    used: u64,
}

impl Disk {
    fn read(folder: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(folder).ok()?;
        let size = stat.f_blocks.saturating_mul(stat.f_frsize);
        let used = size.saturating_sub(stat.f_bfree.saturating_mul(stat.f_frsize));
        Some(Self { id: folder.display().to_string(), size, used })
    }

    fn alert(&self) -> Option<&'static str> {
        is_almost_full(self.used, self.size).then_some("disk_almost_full")
    }

    fn json(&self) -> Value {
        let percent = self.used.saturating_mul(100) / self.size.max(1);
        json!({"id": self.id, "size_kb": self.size / 1024, "percent_used": percent})
    }
}

fn is_almost_full(used: u64, total: u64) -> bool {
    total > 0 && used.saturating_mul(100) > total.saturating_mul(ALMOST_FULL_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_is_disconnected_and_has_decayed() {
        let member = |node_id, running| MemberInfo { node_id, running, ..MemberInfo::default() };
        let cluster = ClusterInfo {
            node_id: 1,
            leader: Some(1),
            members: vec![member(1, true), member(2, true), member(3, false)],
            ..ClusterInfo::default()
        };
        let list = list(&cluster, Some(Path::new("/")));
        assert!(list[0]["memory"]["total_memory"].as_u64().unwrap() > 0);
        assert!(list[0]["disk"][0]["size_kb"].as_u64().unwrap() > 0);
        assert_eq!((&list[1]["health_alerts"], &list[1]["health_decay"]), (&json!([]), &json!(0)));
        assert_eq!(list[2]["health_alerts"], json!(["disconnected"]));
        assert_eq!(list[2]["health_decay"], json!(100));
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let memory = Memory::parse("MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable: 100 kB\n");
        assert_eq!((memory.total, memory.free), (1_024_000, 10_240));
        assert_eq!(memory.alert(), Some("system_memory_high_watermark"));
        assert_eq!(Memory::parse("").alert(), None);
    }
}
