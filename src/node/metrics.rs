//! What a node counts. Every refusal is one of these, named by what was refused and why.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A counter: its name, and the reason or kind it counts apart.
type Key = (&'static str, &'static str);

/// Counters and gauges, printed in the Prometheus text format.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: BTreeMap<Key, u64>,
    gauges: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// Counts one.
    pub fn count(&mut self, name: &'static str, reason: &'static str) {
        self.add(name, reason, 1);
    }

    /// Counts `amount`.
    pub fn add(&mut self, name: &'static str, reason: &'static str, amount: u64) {
        *self.counters.entry((name, reason)).or_insert(0) += amount;
    }

    /// Sets a gauge.
    pub fn set(&mut self, name: &'static str, value: u64) {
        self.gauges.insert(name, value);
    }

    /// One counter's value.
    pub fn get(&self, name: &'static str, reason: &'static str) -> u64 {
        self.counters.get(&(name, reason)).copied().unwrap_or(0)
    }

    /// All of them: `tern_<name>_total{reason="<reason>"} <value>`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for ((name, reason), value) in &self.counters {
            if *name != last {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "# TYPE tern_{name}_total counter");
                last = name;
            }
            let _ = if reason.is_empty() {
                writeln!(text, "tern_{name}_total {value}")
            } else {
                writeln!(text, "tern_{name}_total{{reason=\"{reason}\"}} {value}")
            };
        }
        for (name, value) in &self.gauges {
            let _ = writeln!(text, "# TYPE tern_{name} gauge\ntern_{name} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_print_grouped_by_name() {
        let mut metrics = Metrics::default();
        metrics.count("refused", "mic");
        metrics.count("refused", "mic");
        metrics.count("refused", "crc");
        metrics.count("uplinks", "");
        metrics.set("devices", 3);
        let text = "# TYPE tern_refused_total counter\ntern_refused_total{reason=\"crc\"} 1\n\
                    tern_refused_total{reason=\"mic\"} 2\n# TYPE tern_uplinks_total counter\n\
                    tern_uplinks_total 1\n# TYPE tern_devices gauge\ntern_devices 3\n";
        assert_eq!(metrics.render(), text);
    }
}
