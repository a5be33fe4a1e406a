//! Whatever the order of frames, answers, refusals, silences and deaths: no number under two
//! contents (S1), no reading accepted twice (S4), no unconfirmed item under two numbers (S8),
//! nothing left over.

use std::collections::{BTreeMap, BTreeSet};

use lorawan::{FCtrl, TxStatus};
use proptest::prelude::*;

use super::world::{GATEWAY, SECOND, World, payload_up};
use crate::fixtures::lora;

#[derive(Clone, Debug)]
enum Step {
    /// A new frame, heard by one or both gateways.
    Up { confirmed: bool, ack: bool, both: bool },
    /// The last frame again.
    Again,
    /// The device forgets its counter.
    Reset,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The log answers no more, or answers what it owes.
    Log { away: bool },
    /// What gateways answer next.
    Acks(Vec<Option<TxStatus>>),
    /// An application queues a downlink.
    Enqueue { confirmed: bool },
    /// kill -9.
    Restart { decided: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        Just(None),
        Just(Some(TxStatus::Ok)),
        Just(Some(TxStatus::TooLate)),
        Just(Some(TxStatus::CollisionPacket)),
    ];
    prop_oneof![
        6 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(confirmed, ack, both)| Step::Up { confirmed, ack, both }),
        3 => Just(Step::Again),
        1 => Just(Step::Reset),
        8 => (1_u64..4_000).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(|away| Step::Log { away }),
        2 => prop::collection::vec(status, 1..4).prop_map(Step::Acks),
        3 => any::<bool>().prop_map(|confirmed| Step::Enqueue { confirmed }),
        1 => any::<bool>().prop_map(|decided| Step::Restart { decided }),
    ]
}

/// The device and the clock beside the world.
struct Story {
    world: World,
    millis: u64,
    fcnt: u32,
    readings: u16,
    items: u8,
    last: Option<bytes::Bytes>,
}

impl Story {
    fn new() -> Self {
        let mut world = World::new("EU868");
        world.state.gateways.insert(SECOND, true);
        world.device().skip_f_cnt_check = true;
        Self { world, millis: 1_000, fcnt: 10, readings: 0, items: 0, last: None }
    }

    fn hear(&mut self, both: bool) {
        let Some(frame) = self.last.clone() else { return };
        let radio = (868_100_000, lora(12, 125));
        // A refusal is an answer too: the counter may be behind what was accepted before a reset.
        let _ = self.world.hear(self.millis, GATEWAY, 10, radio, &frame);
        if both {
            self.millis += 20;
            let _ = self.world.hear(self.millis, SECOND, 50, radio, &frame);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Up { confirmed, ack, both } => {
                self.fcnt += 1;
                self.readings += 1;
                let fctrl = FCtrl { ack, ..FCtrl::default() };
                let payload = self.readings.to_be_bytes();
                self.last = Some(payload_up(confirmed, self.fcnt, fctrl, &[], &payload));
                self.hear(both);
            }
            Step::Again => self.hear(false),
            Step::Reset => self.fcnt = 0,
            Step::Wait(millis) => {
                self.millis += millis;
                self.world.run_to(self.millis);
            }
            Step::Log { away: true } => self.world.log_is_away = true,
            Step::Log { away: false } => self.world.log_returns(),
            Step::Acks(acks) => self.world.acks.extend(acks),
            Step::Enqueue { confirmed } if self.items < 200 => {
                self.items += 1;
                self.world.enqueue(self.items, confirmed, &[self.items; 4]);
            }
            Step::Enqueue { .. } => {}
            Step::Restart { decided } => self.world.restart(decided, self.items),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn numbers_readings_and_items_are_used_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut story = Story::new();
        steps.into_iter().for_each(|step| story.take(step));
        story.world.log_returns();
        story.world.run_to(story.millis + 100_000);
        let seen = &story.world.seen;
        let mut contents = BTreeMap::new();
        for (_, downlink) in &seen.sent {
            let number = [downlink.phy_payload[6], downlink.phy_payload[7]];
            let bytes = contents.entry(number).or_insert(&downlink.phy_payload);
            prop_assert_eq!(*bytes, &downlink.phy_payload, "one number, two contents");
        }
        let readings: BTreeSet<_> = seen.accepted.iter().map(|accept| &accept.data).collect();
        prop_assert_eq!(readings.len(), seen.accepted.len(), "a reading accepted twice");
        let mut numbers = BTreeMap::new();
        for record in seen.records.iter().filter(|record| record.item_id.is_some()) {
            let number = *numbers.entry(record.item_id).or_insert(record.f_cnt_down);
            prop_assert_eq!(number, record.f_cnt_down, "an item under two numbers");
        }
        let next = story.world.session().n_f_cnt_down.next;
        for write in &seen.cursors {
            prop_assert!(write.next_unused <= next, "a number that was never granted");
        }
        prop_assert_eq!(story.world.mac.frames_in_hand(), 0);
        prop_assert_eq!(story.world.mac.poll_timeout(), None);
    }
}
