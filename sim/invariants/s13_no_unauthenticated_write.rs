//! S13, no write from unauthenticated radio: what the log is asked about frames names a frame that
//! a device of the world has sent, heard by gateways that somebody has registered. Forged, altered
//! and unknown frames cause no proposal.
//!
//! Source: requirements, part G, S13. A TX_ACK is believed by its token alone, so the report of a
//! downlink is held against what has left for a gateway, not against who answered; where bits are
//! turned on the way not even that can always be told.

use std::collections::BTreeSet;

use bytes::Bytes;
use lorawan::{DevEui, DevNonce, GatewayEui, JoinEui, TxStatus};
use mac::{AcceptJoin, AcceptUplink, PlanDownlink, Reception, RecordTxAck};
use store::Command;

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Seen};

/// A data frame as a proposal names it.
type Frame = (DevEui, u32, Option<u8>, Bytes, bool);

/// Watches S13.
#[derive(Debug, Default)]
pub struct NoUnauthenticatedWrite {
    sent: BTreeSet<Frame>,
    counters: BTreeSet<(DevEui, u32)>,
    asked: BTreeSet<(JoinEui, DevEui, DevNonce)>,
    handed: BTreeSet<(DevEui, u32)>,
    gateways: BTreeSet<GatewayEui>,
    /// A downlink may have left that nobody could attribute.
    doubtful: bool,
}

impl NoUnauthenticatedWrite {
    fn proposed(&mut self, command: &Command) -> Option<String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "five commands concern it")]
        match command {
            Command::PutGateway(put) => {
                self.gateways.insert(put.value.gateway_id);
                None
            }
            Command::AcceptUplink(uplink) => {
                self.uplink(uplink).or_else(|| self.receptions(&uplink.receptions))
            }
            Command::AcceptJoin(join) => {
                self.join(join).or_else(|| self.receptions(&join.receptions))
            }
            Command::PlanDownlink(plan) => self.plan(plan),
            Command::RecordTxAck(record) => self.report(record),
            _ => None,
        }
    }

    fn uplink(&self, uplink: &AcceptUplink) -> Option<String> {
        let AcceptUplink { dev_eui, f_cnt, f_port, data, confirmed, .. } = uplink;
        let frame = (*dev_eui, *f_cnt, *f_port, data.clone(), *confirmed);
        (!self.sent.contains(&frame)).then(|| format!("nobody sent the uplink {frame:02x?}"))
    }

    fn join(&self, join: &AcceptJoin) -> Option<String> {
        let asked = (join.join_eui, join.dev_eui, join.dev_nonce);
        (!self.asked.contains(&asked)).then(|| format!("nobody asked to join with {asked:?}"))
    }

    fn receptions(&self, receptions: &[Reception]) -> Option<String> {
        let unknown = receptions.iter().find(|one| !self.gateways.contains(&one.gateway))?;
        Some(format!("heard by gateway {}, which nobody registered", unknown.gateway))
    }

    fn plan(&self, plan: &PlanDownlink) -> Option<String> {
        let uplink = (plan.dev_eui, plan.uplink_f_cnt);
        (!self.counters.contains(&uplink)).then(|| format!("an answer to {uplink:?}, never sent"))
    }

    fn report(&self, record: &RecordTxAck) -> Option<String> {
        let downlink = (record.dev_eui, record.f_cnt_down);
        // One that failed may never have left.
        let left = self.doubtful || self.handed.contains(&downlink);
        let phantom = record.status == Some(TxStatus::Ok) && !left;
        phantom.then(|| format!("{downlink:?} reported as sent, but it never left a node"))
    }
}

impl Invariant for NoUnauthenticatedWrite {
    fn name(&self) -> &'static str {
        "S13"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        self.doubtful |= seen.fact.raises_doubt();
        #[expect(clippy::wildcard_enum_match_arm, reason = "four facts concern it")]
        match &seen.fact {
            Fact::UplinkSent { reading, confirmed } => {
                let (device, f_cnt) = (reading.device, reading.f_cnt);
                let payload = reading.payload.clone();
                self.counters.insert((device, f_cnt));
                self.sent.insert((device, f_cnt, reading.f_port, payload, *confirmed));
            }
            Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce } => {
                self.asked.insert((*join_eui, *dev_eui, *dev_nonce));
            }
            Fact::DownlinkHanded { device, f_cnt, .. } => {
                self.handed.insert((*device, *f_cnt));
            }
            Fact::Logged { node, index, proposals } => {
                let wrong = proposals.iter().filter_map(|one| self.proposed(&one.command));
                let tell = |why| violation("S13", seen, format!("entry {index} of {node}: {why}"));
                return wrong.map(tell).collect();
            }
            _ => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{
        accept_join, accept_uplink, device, downlink, join_request, judge, logged, put_gateway,
        reading, tx_ack, uplink_sent,
    };
    use super::*;

    #[test]
    fn what_devices_sent_through_registered_gateways_passes() {
        let history = [
            logged(1, [put_gateway(1)]),
            join_request(7),
            logged(2, [accept_join(7, 1)]),
            uplink_sent(3, "21.5"),
            logged(3, [accept_uplink(reading(3, "21.5"), 1)]),
            downlink(9, None),
            logged(4, [tx_ack(9, Some(TxStatus::Ok)), tx_ack(10, Some(TxStatus::TooLate))]),
        ];
        assert!(judge(&mut NoUnauthenticatedWrite::default(), history).is_empty());
    }

    #[test]
    fn a_forged_or_altered_frame_in_the_log_is_caught() {
        let mut other = reading(3, "21.5");
        other.device = device(2);
        for forged in [reading(3, "21.6"), reading(4, "21.5"), other] {
            let proposed = accept_uplink(forged, 1);
            let history =
                [logged(1, [put_gateway(1)]), uplink_sent(3, "21.5"), logged(2, [proposed])];
            assert_eq!(judge(&mut NoUnauthenticatedWrite::default(), history).len(), 1);
        }
        let history =
            [logged(1, [put_gateway(1)]), join_request(7), logged(2, [accept_join(8, 1)])];
        assert_eq!(judge(&mut NoUnauthenticatedWrite::default(), history).len(), 1);
    }

    #[test]
    fn an_unregistered_gateway_and_a_made_up_report_are_caught() {
        let history = [
            logged(1, [put_gateway(1)]),
            uplink_sent(3, "21.5"),
            logged(2, [accept_uplink(reading(3, "21.5"), 2)]),
            logged(3, [tx_ack(9, Some(TxStatus::Ok))]),
        ];
        let found = judge(&mut NoUnauthenticatedWrite::default(), history);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("nobody registered") && found[1].contains("never left"));
    }
}
