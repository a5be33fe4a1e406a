//! What the web layer counts, and the Prometheus text of that and of the node's own numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use node::api::wire::{Metric, MetricKind};

/// How often the live view shows refusals of one kind.
const TELL_EVERY: Duration = Duration::from_secs(5);

type Labels = (&'static str, &'static str, u16);

/// Requests by route and status, refusals by reason.
#[derive(Debug, Default)]
pub(super) struct Counts {
    requests: Mutex<BTreeMap<Labels, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    told: Mutex<BTreeMap<&'static str, (Option<Instant>, u64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A count is whole after any panic: nothing in between can be seen.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    /// A request of a known route was answered.
    pub(super) fn answered(&self, verb: &'static str, path: &'static str, status: u16) {
        *lock(&self.requests).entry((verb, path, status)).or_insert(0) += 1;
    }

    /// A request, or a connection, was refused.
    pub(super) fn refused(&self, reason: &'static str) {
        *lock(&self.refused).entry(reason).or_insert(0) += 1;
    }

    /// Whether a refusal is to be shown now: at most once in [`TELL_EVERY`] for each reason.
    ///
    /// * Returns how many there were since the last time.
    pub(super) fn tell(&self, reason: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut told = lock(&self.told);
        let (last, count) = told.entry(reason).or_insert((None, 0));
        *count += 1;
        if last.is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(count))
    }

    /// Everything, after the node's own.
    pub(super) fn text(&self, node: &[Metric]) -> String {
        let mut text = String::new();
        for metric in node {
            family(&mut text, metric);
        }
        head(&mut text, "tern_http_requests_total", "Requests answered.", MetricKind::Counter);
        for ((method, route, status), value) in lock(&self.requests).iter() {
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "tern_http_requests_total{{method=\"{method}\",route=\"{route}\",\
                 status=\"{status}\"}} {value}"
            );
        }
        let help = "Requests and connections refused, by reason.";
        head(&mut text, "tern_http_refused_total", help, MetricKind::Counter);
        for (reason, value) in lock(&self.refused).iter() {
            let _ = writeln!(text, "tern_http_refused_total{{reason=\"{reason}\"}} {value}");
        }
        text
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: MetricKind) {
    let kind = match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    };
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn family(text: &mut String, metric: &Metric) {
    head(text, metric.name, metric.help, metric.kind);
    for (labels, value) in &metric.samples {
        text.push_str(metric.name);
        for (number, (name, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(text, "{before}{name}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(text, "{after} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_shown_once() {
        let counts = Counts::default();
        assert_eq!(counts.tell("body_too_large"), Some(1));
        assert!((0..1_000).all(|_| counts.tell("body_too_large").is_none()));
        assert_eq!(counts.tell("not_http"), Some(1));
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let counts = Counts::default();
        counts.answered("get", "/api/tenants", 200);
        counts.answered("get", "/api/tenants", 200);
        counts.refused("body_too_large");
        let metric = Metric {
            name: "tern_uplinks_total",
            help: "Frames.",
            kind: MetricKind::Counter,
            samples: vec![(vec![("reason", "a\"b".into())], 3.0), (Vec::new(), 0.5)],
        };
        let text = counts.text(&[metric]);
        for line in [
            "# TYPE tern_uplinks_total counter\ntern_uplinks_total{reason=\"a\\\"b\"} 3\n",
            "\ntern_uplinks_total 0.5\n",
            "tern_http_requests_total{method=\"get\",route=\"/api/tenants\",status=\"200\"} 2\n",
            "tern_http_refused_total{reason=\"body_too_large\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
