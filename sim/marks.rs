//! Marks: rare places that a long run must have been to, or its green says little.
//!
//! Some are seen in the facts ([`Marks::observe`]), some told by the world with [`sometimes!`],
//! some are counters of the nodes themselves ([`Marks::metrics`]). A scenario may demand marks of
//! each of its runs; the long runs demand all of them at least once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lorawan::{DevEui, GatewayEui, TxStatus};
use node::api::wire::Metric;

use crate::oracle::{Answer, Fact, Reading, Seen};

/// Counts a mark if a condition holds, always evaluating it.
#[macro_export]
macro_rules! sometimes {
    ($record:expr, $mark:expr, $condition:expr) => {
        if $condition {
            $record.hit($mark);
        }
    };
}

macro_rules! marks {
    ($($variant:ident $name:literal $(=> $metric:literal $reason:literal)? : $told:literal;)*) => {
        /// A place that runs must come by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $(#[doc = $told] $variant,)*
        }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As scenarios and tables call it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What happens there.
            pub const fn told(self) -> &'static str {
                match self {
                    $(Self::$variant => $told,)*
                }
            }

            /// The nodes' own counter and its reason, for a mark that is one.
            const fn metric(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$variant => marks!(@metric $($metric $reason)?),)*
                }
            }
        }
    };
    (@metric $metric:literal $reason:literal) => { Some(($metric, $reason)) };
    (@metric) => { None };
}

marks! {
    FcntRolledOver "fcnt-rolled-over": "an uplink above 65,535 was accepted after one below";
    AbpReset "abp-reset-accepted": "a reading of a device that counts from the start was accepted";
    RepeatAnswered "repeat-answered": "an uplink acknowledged before was acknowledged again";
    Rx2 "rx2": "a downlink was meant for the second window";
    SecondGateway "second-gateway": "the same bytes went to a second gateway";
    TmstWrapped "tmst-wrapped": "a gateway's counter passed zero";
    CounterResetUnderWay "counter-reset-under-way": "a counter jumped with a downlink planned";
    TxTooLate "tx-too-late": "a gateway refused a downlink that came too late";
    TxCollision "tx-collision": "a gateway was asked for two downlinks at a time";
    DownlinkCancelled "downlink-cancelled": "a queued downlink was taken back in time";
    CancelRefused "cancel-refused": "a downlink was to be taken back and had been handed out";
    UnknownOutcome "unknown-outcome": "a call got no answer, and nobody knows what was done";
    SessionResumed "session-resumed": "a client found its persistent session";
    Redelivered "redelivered": "a message came a second time, marked as such";
    RetainedKept "retained-kept": "a retained message reached a later subscriber";
    Restarted "restarted": "a node started again";
    CutWhileRecovering "cut-while-recovering": "power went before a node was ready again";
    TornWrite "torn-write": "a power cut left a part of a write";
    LostWrite "lost-write": "a power cut lost a write";
    RottenRead "rotten-read": "rotten bytes were read";
    WriteAstray "write-astray": "a write landed at another place";
    WriteRefused "write-refused": "a write found the disk full";
    SnapshotWritten "snapshot-written": "a node wrote a snapshot";
    StoppedByRot "stopped-by-rot": "a node stopped rather than serve what it could not trust";
    JoinRefused "dev-nonce-refused" => "tern_uplinks_refused_total" "dev_nonce_used":
        "a join-request with a used DevNonce was refused";
    LateCopyRefused "late-copy-refused" => "tern_uplinks_refused_total" "f_cnt_too_low":
        "a counter already passed was refused";
    MicRefused "mic-refused" => "tern_uplinks_refused_total" "mic":
        "a frame with a wrong MIC was refused";
    JoinMicRefused "join-mic-refused" => "tern_uplinks_refused_total" "join_mic":
        "a join-request with a wrong MIC was refused";
    UnknownGatewayRefused "unknown-gateway-refused" =>
        "tern_gateway_refused_total" "unregistered_gateway":
        "an unknown gateway's frame was refused";
    Repeated "repeated" => "tern_uplinks_total" "repeated": "a device repeated an uplink";
    TooLate "answer-too-late" => "tern_downlinks_total" "too_late":
        "an answer was too late for its window and was not sent";
    NoPath "no-path" => "tern_downlinks_total" "no_gateway_path":
        "an answer found no gateway to go through";
    TxRefused "tx-refused" => "tern_downlinks_total" "gateway_refused":
        "a gateway said that it did not send";
    TxAckLost "tx-ack-lost" => "tern_downlinks_total" "no_tx_ack":
        "a gateway did not say whether it sent";
    DiskFullRefused "disk-full-refused" => "tern_proposals_failed_total" "disk_full":
        "a proposal was refused because the disk was full";
}

impl Mark {
    /// The mark of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mark| mark.name() == name)
    }
}

/// How long a downlink is planned ahead at most.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// The marks of one run, and what it takes to see them.
#[derive(Debug, Default)]
pub struct Marks {
    counts: BTreeMap<Mark, u64>,
    highest: BTreeMap<DevEui, (u64, u32)>,
    acknowledged: BTreeMap<Reading, Duration>,
    heard: BTreeMap<(GatewayEui, u32), Duration>,
    last_tmst: BTreeMap<GatewayEui, u32>,
    handed: BTreeMap<GatewayEui, Duration>,
    sent: BTreeMap<(DevEui, u32), GatewayEui>,
    starts: BTreeSet<String>,
    /// Devices that have forgotten their counters and have not been heard of since.
    forgot: BTreeSet<DevEui>,
    /// The nodes' counters when last looked at.
    seen: BTreeMap<(String, Mark), f64>,
}

impl Marks {
    /// Counts one.
    pub fn hit(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
    }

    /// How often each was hit.
    pub fn counts(&self) -> &BTreeMap<Mark, u64> {
        &self.counts
    }

    fn hit_if(&mut self, mark: Mark, condition: bool) {
        if condition {
            self.hit(mark);
        }
    }

    /// Looks at a node's counters; `boot` tells one process from the next, which counts from zero.
    pub fn metrics(&mut self, boot: &str, metrics: &[Metric]) {
        for &mark in Mark::ALL {
            let Some((name, reason)) = mark.metric() else { continue };
            let family = metrics.iter().find(|metric| metric.name == name);
            let samples = family.into_iter().flat_map(|metric| &metric.samples);
            let labelled = |labels: &[(&str, String)]| {
                labels.iter().any(|(key, value)| *key == "reason" && value == reason)
            };
            let now: f64 =
                samples.filter(|(labels, _)| labelled(labels)).map(|(_, value)| *value).sum();
            let before = self.seen.insert((boot.to_owned(), mark), now).unwrap_or(0.0);
            self.hit_if(mark, now > before);
        }
    }

    /// Sees the next fact.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most facts are no marks")]
    pub fn observe(&mut self, seen: &Seen) {
        match &seen.fact {
            Fact::Heard { gateway, tmst, .. } => self.heard(seen.at, *gateway, *tmst),
            Fact::CounterReset { gateway } => {
                let under_way =
                    self.handed.get(gateway).is_some_and(|at| *at + UNDER_WAY > seen.at);
                self.hit_if(Mark::CounterResetUnderWay, under_way);
                self.last_tmst.remove(gateway);
            }
            Fact::DownlinkHanded { how, device, f_cnt, acknowledges, .. } => {
                self.handed.insert(how.gateway, seen.at);
                let first = *self.sent.entry((*device, *f_cnt)).or_insert(how.gateway);
                self.hit_if(Mark::SecondGateway, first != how.gateway);
                if let Some(tmst) = how.tmst {
                    let begin = (how.gateway, tmst.wrapping_sub(2_000_000));
                    let known = self.heard.contains_key(&begin);
                    self.hit_if(Mark::Rx2, known);
                }
                if let Some(reading) = acknowledges {
                    let first = *self.acknowledged.entry(reading.clone()).or_insert(seen.at);
                    self.hit_if(Mark::RepeatAnswered, first + UNDER_WAY < seen.at);
                }
            }
            Fact::Rebooted { device, memory_lost: true } => {
                self.forgot.insert(*device);
            }
            Fact::Decided { status, .. } => {
                self.hit_if(Mark::TxTooLate, *status == TxStatus::TooLate);
                self.hit_if(Mark::TxCollision, *status == TxStatus::CollisionPacket);
            }
            Fact::Accepted { session_epoch, event, .. } => {
                self.accepted(event.reading.device, *session_epoch, event.reading.f_cnt);
            }
            Fact::Queued { answer, .. } => {
                self.hit_if(Mark::UnknownOutcome, *answer == Answer::Unknown);
            }
            Fact::Cancelled { answer, .. } => {
                self.hit_if(Mark::DownlinkCancelled, *answer == Answer::Done);
                self.hit_if(Mark::CancelRefused, *answer == Answer::Refused);
            }
            Fact::Connected { session_present, .. } => {
                self.hit_if(Mark::SessionResumed, *session_present);
            }
            Fact::Received { message, .. } => {
                self.hit_if(Mark::Redelivered, message.dup);
                self.hit_if(Mark::RetainedKept, message.retain);
            }
            Fact::Started { node } => {
                let again = !self.starts.insert(node.clone());
                self.hit_if(Mark::Restarted, again);
            }
            _ => {}
        }
    }

    fn heard(&mut self, at: Duration, gateway: GatewayEui, tmst: u32) {
        self.heard.insert((gateway, tmst), at);
        let last = self.last_tmst.insert(gateway, tmst);
        // Half the range below the last one is a wrap; less is another gateway of the same name.
        self.hit_if(
            Mark::TmstWrapped,
            last.is_some_and(|last| last > tmst && last - tmst > 1 << 31),
        );
    }

    fn accepted(&mut self, device: DevEui, epoch: u64, f_cnt: u32) {
        let before = self.highest.insert(device, (epoch, f_cnt));
        let Some((last_epoch, last)) = before else { return };
        let again = f_cnt < last && self.forgot.remove(&device);
        self.hit_if(Mark::AbpReset, again);
        let rolled = last_epoch == epoch && last <= 0xFFFF && f_cnt > 0xFFFF;
        self.hit_if(Mark::FcntRolledOver, rolled);
    }
}

#[cfg(test)]
mod tests {
    use node::api::wire::MetricKind;

    use super::*;

    fn seen(second: u64, fact: Fact) -> Seen {
        Seen { at: Duration::from_secs(second), fact }
    }

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<&str> = Mark::ALL.iter().map(|mark| mark.name()).collect();
        assert_eq!(names.len(), Mark::ALL.len());
        assert!(Mark::ALL.iter().all(|mark| Mark::named(mark.name()) == Some(*mark)));
        assert!(Mark::ALL.iter().all(|mark| mark.told().len() > 10));
    }

    #[test]
    fn a_counter_of_a_node_counts_once_for_each_time_it_has_risen() {
        let metric = |value: f64| Metric {
            name: "tern_uplinks_refused_total",
            help: "",
            kind: MetricKind::Counter,
            samples: vec![(vec![("reason", "mic".to_owned())], value)],
        };
        let mut marks = Marks::default();
        for (boot, value) in [("n1 1", 0.0), ("n1 1", 3.0), ("n1 1", 3.0), ("n1 2", 1.0)] {
            marks.metrics(boot, &[metric(value)]);
        }
        assert_eq!(marks.counts().get(&Mark::MicRefused), Some(&2));
        assert_eq!(marks.counts().len(), 1);
    }

    #[test]
    fn a_wrap_is_told_from_a_reset() {
        let gateway = GatewayEui::default();
        let heard = |tmst| Fact::Heard {
            gateway,
            tmst,
            device: DevEui::default(),
            reading: None,
            wants_answer: false,
            live: true,
        };
        let mut marks = Marks::default();
        marks.observe(&seen(1, heard(u32::MAX - 5)));
        marks.observe(&seen(2, Fact::CounterReset { gateway }));
        marks.observe(&seen(3, heard(7)));
        assert!(marks.counts().is_empty());
        marks.observe(&seen(4, heard(u32::MAX - 5)));
        marks.observe(&seen(5, heard(9)));
        assert_eq!(marks.counts().get(&Mark::TmstWrapped), Some(&1));
    }
}
