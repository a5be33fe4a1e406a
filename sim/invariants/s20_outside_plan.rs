//! S20, never outside the plan: what a node has a gateway send is on a frequency, in a modulation
//! and at a power that the region allows, in RX1 or RX2 of an uplink; and a gateway's air-time in a
//! sub-band, over any hour, is within the duty cycle.
//!
//! Source: requirements, part G, S20; RP002-1.0.4. An uplink is what a PUSH_DATA says: the node
//! knows no more, and answers on the frequency it was told. Where links turn bits or somebody
//! forges uplinks it may have been told anything, and nothing is held against it then.
//!
//! The server does not keep a duty cycle yet. The ledger of air-time is kept all the same, and the
//! busiest hour told at the end; [`OutsidePlan::holding_duty_cycle`] makes it a promise. That a
//! gateway sends one frame at a time is the other half of S20, in a file of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lorawan::{
    Direction, GatewayEui, JOIN_ACCEPT_DELAY1, Modulation, RECEIVE_DELAY1, RX2_AFTER_RX1, Region,
    TxStatus,
};
use scenario::FaultKind;

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Order, Seen, Transmission};

/// How long an uplink may still be answered, and some: a node that stood still for a minute finds
/// it in its socket, and cannot know that it is old. Its gateway does.
const UPLINK_KEPT: Duration = Duration::from_secs(120);
/// The time over which a duty cycle is taken.
const HOUR: Duration = Duration::from_secs(3_600);
/// What an uplink was sent with, and when its PUSH_DATA left.
type Uplink = (Duration, u32, Modulation);

/// The air-time of one gateway in one sub-band.
#[derive(Clone, Debug, Default)]
struct Airtime {
    frames: VecDeque<(Duration, Duration)>,
    last_hour: Duration,
    busiest: Duration,
    told: bool,
}

/// Watches S20.
#[derive(Debug, Default)]
pub struct OutsidePlan {
    region: Option<&'static Region>,
    doubtful: bool,
    holds_duty_cycle: bool,
    uplinks: BTreeMap<(GatewayEui, u32), Vec<Uplink>>,
    order: VecDeque<(Duration, GatewayEui, u32)>,
    handed: BTreeMap<Order, Transmission>,
    /// By gateway and lower edge of the sub-band.
    airtimes: BTreeMap<(GatewayEui, u32), Airtime>,
    transmissions: u64,
}

impl OutsidePlan {
    /// Also takes a busy hour beyond the duty cycle for a violation.
    #[must_use]
    pub const fn holding_duty_cycle(mut self) -> Self {
        self.holds_duty_cycle = true;
        self
    }

    fn pushed(&mut self, at: Duration, gateway: GatewayEui, tmst: u32, uplink: (u32, Modulation)) {
        while let Some((since, gateway, tmst)) = self.order.front().copied()
            && at > since + UPLINK_KEPT
        {
            self.order.pop_front();
            self.uplinks.remove(&(gateway, tmst));
        }
        self.uplinks.entry((gateway, tmst)).or_default().push((at, uplink.0, uplink.1));
        self.order.push_back((at, gateway, tmst));
    }

    fn handed(&mut self, how: &Transmission, delay1: Duration) -> Vec<String> {
        self.transmissions += 1;
        self.handed.insert(how.order(), how.clone());
        if self.doubtful {
            return Vec::new();
        }
        let Some(region) = self.region else { return Vec::new() };
        let wrong = outside(region, how).or_else(|| self.no_window(region, how, delay1));
        wrong.into_iter().collect()
    }

    /// Why a transmission is in no window of an uplink.
    fn no_window(&self, region: &Region, how: &Transmission, delay1: Duration) -> Option<String> {
        let Some(tmst) = how.tmst else {
            return Some(format!("class A has no downlink at once: {how:?}"));
        };
        let begins = |delay: Duration| {
            tmst.wrapping_sub(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX))
        };
        let heard = |delay| self.uplinks.get(&(how.gateway, begins(delay))).into_iter().flatten();
        let asked = (how.frequency_hz, region.dr_of(how.modulation, Direction::Down));
        let rx1 = heard(delay1).any(|(_, frequency_hz, modulation)| {
            let dr = region.dr_of(*modulation, Direction::Up);
            let dr = dr.and_then(|dr| region.rx1_dr(dr, 0, false));
            (region.rx1_frequency(*frequency_hz), dr) == (Some(asked.0), asked.1) && dr.is_some()
        });
        let later = delay1 + RX2_AFTER_RX1;
        let rx2 = heard(later).next().is_some()
            && asked == (region.rx2_frequency_hz, Some(region.rx2_dr));
        let excused = self.doubtful || rx1 || rx2;
        (!excused).then(|| format!("in no window of an uplink: {how:?}"))
    }

    fn account(&mut self, at: Duration, how: &Transmission) -> Option<String> {
        let band = self.region?.sub_band(how.frequency_hz)?;
        let account = self.airtimes.entry((how.gateway, band.from_hz)).or_default();
        while let Some((since, airtime)) = account.frames.front().copied()
            && at >= since + HOUR
        {
            account.frames.pop_front();
            account.last_hour -= airtime;
        }
        account.frames.push_back((at, how.airtime));
        account.last_hour += how.airtime;
        account.busiest = account.busiest.max(account.last_hour);
        let over = account.last_hour > allowed(band.duty_cycle_permille);
        if !over || account.told || !self.holds_duty_cycle {
            return None;
        }
        account.told = true;
        Some(format!(
            "gateway {} sent for {:.1} s within an hour from {} Hz on, {} per mille are allowed",
            how.gateway,
            account.last_hour.as_secs_f64(),
            band.from_hz,
            band.duty_cycle_permille
        ))
    }
}

/// Air-time in an hour that a duty cycle leaves.
fn allowed(permille: u16) -> Duration {
    HOUR * u32::from(permille) / 1_000
}

/// What the region does not allow about a transmission, whatever it answers.
fn outside(region: &Region, how: &Transmission) -> Option<String> {
    if region.dr_of(how.modulation, Direction::Down).is_none() {
        return Some(format!("no downlink data rate of {}: {how:?}", region.name));
    }
    let band = region.sub_band(how.frequency_hz);
    let channel = region.downlink_channels().any(|one| one.frequency_hz == how.frequency_hz);
    if band.is_none() && !channel && how.frequency_hz != region.rx2_frequency_hz {
        return Some(format!("no frequency of {}: {how:?}", region.name));
    }
    let limit_cdbm = band
        .map_or(i32::from(region.downlink_eirp_dbm) * 100, |band| i32::from(band.max_eirp_cdbm));
    let loud = i32::from(how.power_dbm) * 100 > limit_cdbm;
    loud.then(|| format!("louder than {limit_cdbm} hundredths of a dBm: {how:?}"))
}

impl Invariant for OutsidePlan {
    fn name(&self) -> &'static str {
        "S20"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "seven facts concern it")]
        let wrong = match &seen.fact {
            Fact::Begins(setting) => {
                self.region = Some(setting.region);
                self.doubtful = setting.doubtful;
                Vec::new()
            }
            // Whoever forges uplinks chooses what the node believes of them.
            Fact::Fault {
                kind:
                    FaultKind::Noise
                    | FaultKind::Replay
                    | FaultKind::BitFlips
                    | FaultKind::ForgedGateways
                    | FaultKind::JoinFlood,
                ..
            } => {
                self.doubtful = true;
                Vec::new()
            }
            Fact::Pushed { gateway, tmst, frequency_hz, modulation } => {
                self.pushed(seen.at, *gateway, *tmst, (*frequency_hz, *modulation));
                Vec::new()
            }
            Fact::DownlinkHanded { how, .. } => self.handed(how, RECEIVE_DELAY1),
            Fact::JoinAcceptHanded { how, .. } => self.handed(how, JOIN_ACCEPT_DELAY1),
            Fact::Decided { order, status } => match (self.handed.remove(order), status) {
                (Some(how), TxStatus::Ok) => self.account(seen.at, &how).into_iter().collect(),
                (Some(_) | None, _) => Vec::new(),
            },
            _ => Vec::new(),
        };
        wrong.into_iter().map(|text| violation("S20", seen, text)).collect()
    }

    fn closing(&self) -> Option<String> {
        let region = self.region?;
        let share = |((gateway, from_hz), account): (&(GatewayEui, u32), &Airtime)| {
            let limit = allowed(region.sub_band(*from_hz)?.duty_cycle_permille);
            let share = account.busiest.as_secs_f64() / limit.as_secs_f64();
            Some((share, *gateway, *from_hz, account.busiest.as_secs_f64(), limit.as_secs()))
        };
        let shares = self.airtimes.iter().filter_map(share);
        let busiest = shares.max_by(|a, b| a.0.total_cmp(&b.0));
        let air = busiest.map_or_else(String::new, |(_, gateway, from_hz, busy, limit)| {
            format!("; busiest: {gateway} from {from_hz} Hz on, {busy:.1} s an hour of {limit} s")
        });
        Some(format!("{} transmissions within the plan{air}", self.transmissions))
    }
}

#[cfg(test)]
mod tests {
    use lorawan::EU868;

    use super::super::history::{ADDRESS, SETTING, SF7, device, gateway, judge, transmission};
    use super::*;

    const HEARD: u32 = 7_000_000;

    fn pushed(frequency_hz: u32) -> Fact {
        Fact::Pushed { gateway: gateway(1), tmst: HEARD, frequency_hz, modulation: SF7 }
    }

    fn handed(how: Transmission) -> Fact {
        Fact::DownlinkHanded {
            how,
            device: device(1),
            dev_addr: ADDRESS,
            f_cnt: 0,
            ciphertexts: Vec::new(),
            payload: None,
            acknowledges: None,
        }
    }

    fn rx1() -> Transmission {
        Transmission { tmst: Some(HEARD + 1_000_000), ..transmission() }
    }

    fn rx2() -> Transmission {
        Transmission {
            tmst: Some(HEARD + 2_000_000),
            frequency_hz: 869_525_000,
            power_dbm: 27,
            modulation: EU868.modulation(0).unwrap(),
            ..transmission()
        }
    }

    fn decided(token: u16, status: TxStatus) -> Fact {
        Fact::Decided { order: ("n1".to_owned(), gateway(1), token), status }
    }

    fn found(history: impl IntoIterator<Item = Fact>) -> usize {
        let history = [Fact::Begins(SETTING), pushed(868_100_000)].into_iter().chain(history);
        judge(&mut OutsidePlan::default(), history).len()
    }

    #[test]
    fn both_windows_of_an_uplink_pass() {
        let second = Transmission { token: 2, ..rx2() };
        let history =
            [handed(rx1()), decided(1, TxStatus::Ok), handed(second), decided(2, TxStatus::Ok)];
        assert_eq!(found(history), 0);
    }

    #[test]
    fn another_frequency_data_rate_moment_or_power_is_caught() {
        let slow = EU868.modulation(0).unwrap();
        for wrong in [
            Transmission { frequency_hz: 868_300_000, ..rx1() },
            Transmission { frequency_hz: 902_300_000, ..rx1() },
            Transmission { modulation: slow, ..rx1() },
            Transmission { tmst: Some(HEARD + 1_000_001), ..rx1() },
            Transmission { tmst: None, ..rx1() },
            Transmission { power_dbm: 17, ..rx1() },
            Transmission { power_dbm: 30, ..rx2() },
            Transmission { frequency_hz: 869_500_000, ..rx2() },
            Transmission { modulation: SF7, ..rx2() },
        ] {
            assert_eq!(found([handed(wrong.clone())]), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_forged_uplink_outside_the_plan_is_not_answered_there() {
        let history = [
            Fact::Begins(SETTING),
            pushed(433_000_000),
            handed(Transmission { frequency_hz: 433_000_000, ..rx1() }),
        ];
        assert_eq!(judge(&mut OutsidePlan::default(), history).len(), 1);
    }

    #[test]
    fn a_busy_hour_is_told_and_held_against_the_limit_if_asked() {
        // One second a second in a band of one per cent: 36 s an hour.
        let long = Transmission { airtime: Duration::from_secs(1), ..rx1() };
        let frames = || {
            let busy = (0..40).flat_map(|n| {
                let tmst = HEARD + 1_000_000 + n * 2_000_000;
                let (gateway, modulation) = (gateway(1), SF7);
                let uplink = Fact::Pushed {
                    gateway,
                    tmst: tmst - 1_000_000,
                    frequency_hz: 868_100_000,
                    modulation,
                };
                let how = Transmission { tmst: Some(tmst), ..long.clone() };
                [uplink, handed(how), decided(1, TxStatus::Ok)]
            });
            [Fact::Begins(SETTING)].into_iter().chain(busy)
        };
        let mut telling = OutsidePlan::default();
        assert!(judge(&mut telling, frames()).is_empty());
        let words = telling.closing().unwrap();
        assert!(words.contains("40.0 s an hour of 36 s"), "{words}");
        let mut holding = OutsidePlan::default().holding_duty_cycle();
        let told = judge(&mut holding, frames());
        assert_eq!(told.len(), 1, "once: {told:?}");
        assert!(told[0].contains("36.") || told[0].contains("37.0 s"), "{told:?}");
    }
}
