//! What a node counts. Every refusal is one of these, named by what was refused and why.

use std::collections::BTreeMap;

use crate::api::wire::{Metric, MetricKind};

/// Names of the counters, each with its sentence. The label is `reason` throughout.
const COUNTERS: [(&str, &str); 10] = [
    ("tern_downlinks_total", "What became of downlinks, and of frames on their way to an answer."),
    ("tern_gateway_refused_total", "Datagrams of gateways, and parts of them, that were refused."),
    ("tern_mqtt_closed_total", "MQTT connections ended, by cause."),
    ("tern_mqtt_refused_total", "Messages of MQTT clients that were refused."),
    ("tern_network_total", "Datagrams not sent and connections not taken."),
    ("tern_events_total", "Rows written to the event log, by kind."),
    ("tern_members_total", "What this node has seen of other nodes: suspected, unheard, heard."),
    ("tern_proposals_failed_total", "Proposals that did not come back from the log, by reason."),
    ("tern_uplinks_total", "Frames of devices taken up or decided, by verdict."),
    ("tern_uplinks_refused_total", "Frames of devices that concern nobody here, by reason."),
];

/// Counters by name and reason.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: BTreeMap<(&'static str, &'static str), u64>,
}

impl Metrics {
    /// Counts one.
    pub fn count(&mut self, name: &'static str, reason: &'static str) {
        self.add(name, reason, 1);
    }

    /// Counts `amount`.
    pub fn add(&mut self, name: &'static str, reason: &'static str, amount: u64) {
        if amount > 0 {
            *self.counters.entry((name, reason)).or_insert(0) += amount;
        }
    }

    /// One counter's value.
    pub fn get(&self, name: &'static str, reason: &'static str) -> u64 {
        self.counters.get(&(name, reason)).copied().unwrap_or(0)
    }

    /// All of them, for the web layer to print.
    pub fn export(&self) -> Vec<Metric> {
        let family = |(name, help): &(&'static str, &'static str)| {
            let lowest = (*name, "");
            let of_name = self.counters.range(lowest..).take_while(|((n, _), _)| n == name);
            #[expect(clippy::cast_precision_loss, reason = "2^53 events are enough")]
            let sample = |(_, reason): &(&str, &'static str), value: &u64| {
                (vec![("reason", (*reason).to_owned())], *value as f64)
            };
            let samples = of_name.map(|(key, value)| sample(key, value)).collect();
            Metric { name, help, kind: MetricKind::Counter, samples }
        };
        COUNTERS.iter().map(family).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_out_grouped_by_name() {
        let mut metrics = Metrics::default();
        metrics.count("tern_uplinks_refused_total", "mic");
        metrics.count("tern_uplinks_refused_total", "mic");
        metrics.count("tern_uplinks_refused_total", "crc");
        metrics.count("tern_uplinks_total", "accepted");
        let families = metrics.export();
        let of = |name: &str| families.iter().find(|family| family.name == name).unwrap();
        let reason = |text: &str, value: f64| (vec![("reason", text.to_owned())], value);
        assert_eq!(
            of("tern_uplinks_refused_total").samples,
            [reason("crc", 1.0), reason("mic", 2.0)]
        );
        assert_eq!(of("tern_uplinks_total").samples, [reason("accepted", 1.0)]);
        assert!(of("tern_mqtt_closed_total").samples.is_empty());
    }
}
