//! Counts what can be counted from outside a node while nothing is under way: its tasks, the memory
//! of the process, and the datagrams that reached its gateway port against those it says it took.
//!
//! Source: requirements, part G, S21; and a promise of the metrics: every datagram of a gateway is
//! counted under exactly one verdict (`tern_gateway_datagrams_total`).

use std::time::Duration;

use madsim::runtime::Handle;
use node::api::wire::Metric;
use node::api::{Operation, Outcome};

use super::machine::{Machine, PORT_GATEWAYS};
use super::operator::Operator;
use super::record::Record;
use crate::net::Net;
use crate::runtime::sleep_virtual;

/// How often the datagrams are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// What has arrived is counted within this time, as long as nothing else arrives.
const QUIET: Duration = Duration::from_millis(50);
/// Looks for such a moment; a busy gateway port is counted another time.
const LOOKS: u32 = 20;
/// The family of metrics that counts each datagram once.
const DATAGRAMS: &str = "tern_gateway_datagrams_total";

/// Compares the node's count with the network's, for ever.
pub(super) async fn count_datagrams(machine: Machine, operator: Operator, record: Record) {
    loop {
        sleep_virtual(COUNT_EVERY).await;
        for _ in 0..LOOKS {
            if compare(&machine, &operator, &record).await {
                break;
            }
        }
    }
}

/// One comparison; false if something arrived meanwhile.
async fn compare(machine: &Machine, operator: &Operator, record: &Record) -> bool {
    let net = Net::current();
    let arrived = || net.delivered_to(machine.id(), PORT_GATEWAYS);
    if machine.node().is_none() {
        // It does not run: another time.
        return true;
    }
    // A node that has stood still has a backlog, and answers only when it is at it.
    if operator.call(Operation::GetMetrics).await.is_err() {
        return true;
    }
    let (boot, before) = (machine.boot_number(), arrived());
    sleep_virtual(QUIET).await;
    if arrived() != before {
        return false;
    }
    let Ok(Outcome::Metrics(families)) = operator.call(Operation::GetMetrics).await else {
        return true;
    };
    if (machine.boot_number(), arrived()) != (boot, before) {
        return false;
    }
    record.look(machine.name(), "metrics", format!("{families:?}").as_bytes());
    let (Some(arrived), Some(counted)) = (before, total(&families)) else { return true };
    if arrived != counted {
        let text = format!(
            "{arrived} datagrams reached the gateway port of {}, which counts {counted} of them: \
             {families:?}",
            machine.name()
        );
        record.violate("refusals", text);
    }
    true
}

fn total(families: &[Metric]) -> Option<u64> {
    let family = families.iter().find(|family| family.name == DATAGRAMS)?;
    let sum: f64 = family.samples.iter().map(|(_, value)| value).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of counters, far below 2^53"
    )]
    let sum = sum as u64;
    Some(sum)
}

/// How many tasks a machine's node has.
pub(super) fn tasks_of(machine: &Machine) -> usize {
    let by_host = Handle::current().metrics().num_tasks_by_node();
    by_host.get(machine.name()).copied().unwrap_or(0)
}

/// How many gateways the operator's node remembers that nobody has registered; `None` where it does
/// not say.
pub(super) async fn strangers_of(operator: &Operator) -> Option<usize> {
    match operator.call(Operation::ListUnknownGateways).await {
        Ok(Outcome::UnknownGateways(list)) => Some(list.result.len()),
        Ok(_) | Err(_) => None,
    }
}

/// The most memory this process has taken so far, in MiB; `None` where the system does not tell.
pub(super) fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib >> 10)
}
