//! S12, every effect is permitted by the log: every downlink number, join-accept, acknowledgement
//! and delivered event that left a node is permitted by an entry of the log that remains at the
//! end. An entry that was acted upon and then lost would show here.
//!
//! Source: requirements, part G, S12. What the log permits is found by applying all of it once more
//! ([`Fact::Audited`]). A cluster founded anew on an empty disk answers for itself alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lorawan::{DevAddr, DevEui, DevNonce, JoinEui, JoinNonce};

use super::{Invariant, Violation, violation};
use crate::oracle::{Event, Fact, Permits, Reading, Seen};

/// Something that left a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Number(DevEui, DevAddr, u32),
    Join(JoinEui, DevEui, DevNonce, JoinNonce),
    Acknowledgement(Reading),
    Delivery(Event),
}

/// Watches S12.
#[derive(Debug, Default)]
pub struct Permitted {
    /// Each with the moment when it first left.
    effects: BTreeMap<Effect, Duration>,
    /// Clients that have asked for a connection since the cluster was founded anew; `None` if it
    /// was not. What others hear, the old one has said.
    listening: Option<BTreeSet<String>>,
    judged: bool,
}

impl Permitted {
    fn left(&mut self, at: Duration, effect: Effect) {
        self.effects.entry(effect).or_insert(at);
    }

    fn judge(&self, permits: &Permits) -> Vec<String> {
        let readings: BTreeSet<&Reading> = permits.uplinks.values().collect();
        let permitted = |effect: &Effect| match effect {
            Effect::Number(device, address, number) => {
                permits.numbers.contains(&(*device, *address, *number))
            }
            Effect::Join(join_eui, device, dev_nonce, join_nonce) => {
                permits.joins.contains(&(*join_eui, *device, *dev_nonce, *join_nonce))
            }
            Effect::Acknowledgement(reading) => readings.contains(reading),
            Effect::Delivery(event) => permits.uplinks.get(&event.id) == Some(&event.reading),
        };
        let wrong = self.effects.iter().filter(|(effect, _)| !permitted(effect));
        wrong
            .map(|(effect, at)| {
                let at = at.as_secs_f64();
                format!("no entry of the log that remains permits {effect:?}, left at {at:.6}s")
            })
            .collect()
    }
}

impl Invariant for Permitted {
    fn name(&self) -> &'static str {
        "S12"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "six facts concern it")]
        match &seen.fact {
            Fact::DownlinkHanded { device, dev_addr, f_cnt, acknowledges, .. } => {
                self.left(seen.at, Effect::Number(*device, *dev_addr, *f_cnt));
                if let Some(reading) = acknowledges {
                    self.left(seen.at, Effect::Acknowledgement(reading.clone()));
                }
            }
            Fact::JoinAcceptHanded { join_eui, dev_eui, dev_nonce, join_nonce, .. } => {
                let join = Effect::Join(*join_eui, *dev_eui, *dev_nonce, *join_nonce);
                self.left(seen.at, join);
            }
            Fact::Connecting { client, .. } => {
                if let Some(listening) = &mut self.listening {
                    listening.insert(client.clone());
                }
            }
            Fact::Delivered { client, event }
                if self.listening.as_ref().is_none_or(|some| some.contains(client)) =>
            {
                self.left(seen.at, Effect::Delivery(event.clone()));
            }
            Fact::DiskLost { wiped: true, .. } => {
                self.effects.clear();
                self.listening = Some(BTreeSet::new());
            }
            Fact::Audited(permits) => {
                self.judged = true;
                let wrong = self.judge(permits).into_iter();
                return wrong.map(|text| violation("S12", seen, text)).collect();
            }
            _ => {}
        }
        Vec::new()
    }

    fn closing(&self) -> Option<String> {
        let verdict = if self.judged { "held against the log that remains" } else { "not judged" };
        Some(format!("{} effects {verdict}", self.effects.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{
        ADDRESS, acknowledgement, device, disk_lost, event, join_accept, judge, reading,
    };
    use super::*;

    fn effects() -> [Fact; 3] {
        [
            join_accept(7, 1, b"one"),
            acknowledgement(4, reading(1, "21.5")),
            Fact::Delivered { client: "app".to_owned(), event: event("a", reading(1, "21.5")) },
        ]
    }

    fn permits() -> Permits {
        Permits {
            numbers: BTreeSet::from([(device(1), ADDRESS, 4)]),
            joins: BTreeSet::from([(JoinEui::default(), device(1), DevNonce(7), JoinNonce(1))]),
            uplinks: BTreeMap::from([("a".to_owned(), reading(1, "21.5"))]),
        }
    }

    fn found(permits: Permits) -> Vec<String> {
        let history = effects().into_iter().chain([Fact::Audited(permits)]);
        judge(&mut Permitted::default(), history)
    }

    #[test]
    fn what_the_log_permits_passes() {
        assert!(found(permits()).is_empty());
        let anew =
            effects().into_iter().chain([disk_lost(true), Fact::Audited(Permits::default())]);
        assert!(judge(&mut Permitted::default(), anew).is_empty());
    }

    #[test]
    fn what_the_old_cluster_has_said_passes_until_a_client_has_turned_to_the_new_one() {
        let heard =
            || Fact::Delivered { client: "app".to_owned(), event: event("a", reading(1, "21.5")) };
        let connecting = Fact::Connecting {
            client: "app".to_owned(),
            node: "n1".to_owned(),
            clean_start: false,
            persistent: true,
        };
        let late = [disk_lost(true), heard(), Fact::Audited(Permits::default())];
        assert!(judge(&mut Permitted::default(), late).is_empty());
        let anew = [disk_lost(true), connecting, heard(), Fact::Audited(Permits::default())];
        assert_eq!(judge(&mut Permitted::default(), anew).len(), 1);
    }

    #[test]
    fn every_kind_of_effect_without_its_entry_is_caught() {
        let without_number = Permits { numbers: BTreeSet::new(), ..permits() };
        assert_eq!(found(without_number).len(), 1);
        let without_join = Permits { joins: BTreeSet::new(), ..permits() };
        assert_eq!(found(without_join).len(), 1);
        let without_uplink = Permits { uplinks: BTreeMap::new(), ..permits() };
        let texts = found(without_uplink);
        assert_eq!(texts.len(), 2, "acknowledged, and delivered: {texts:?}");
        let other = BTreeMap::from([("a".to_owned(), reading(1, "21.6"))]);
        assert_eq!(found(Permits { uplinks: other, ..permits() }).len(), 2);
        let renamed = BTreeMap::from([("b".to_owned(), reading(1, "21.5"))]);
        assert_eq!(found(Permits { uplinks: renamed, ..permits() }).len(), 1);
    }
}
