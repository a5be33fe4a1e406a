//! What a device is made with: keys, address, version, data rate. All of it drawn from a stream of
//! the device's own, and always as many draws.

use lorawan::{DevAddr, DevEui, JoinEui, Key, Region, SessionKeys};
use radio::{Activation, DeviceConfig, DeviceVersion};
use scenario::Scenario;

use super::witness::{Personal, Root};
use crate::dice::{Dice, Seed};

/// The join server that all devices name.
const JOIN_EUI: JoinEui = JoinEui::from_be_bytes([0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0xFF, 0, 1]);
/// DevEUI of the first device.
const DEV_EUI_FIRST: u64 = 0x70B3_D57E_D000_0000;
/// The part of a DevAddr that is not NetID 0's prefix.
const ADDRESS_MASK: u32 = 0x01FF_FFFF;

/// What a device is made with.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    /// What the operator registers.
    pub(super) root: Root,
    /// What the device itself has.
    pub(super) config: DeviceConfig,
}

impl Kit {
    /// Of the device number `place` (from 0) of the scenario, called `name`.
    ///
    /// * `is_probe`: no device of the scenario's; it joins.
    pub(super) fn draw(
        scenario: &Scenario,
        seed: Seed,
        (place, name): (u32, &str),
        is_probe: bool,
    ) -> Self {
        let mut dice = seed.stream(&format!("kit {name}"));
        let app_key = key(&mut dice);
        let keys = [key(&mut dice), key(&mut dice)];
        let drawn = dice.below(u64::from(ADDRESS_MASK) + 1);
        let dev_addr = DevAddr::from_u32(u32::try_from(drawn).unwrap_or(ADDRESS_MASK));
        let region = region(scenario);
        let rates = region.uplink_channels().next().map_or(0..=0, |one| one.min_dr..=one.max_dr);
        let rates: Vec<u8> = rates.collect();
        let data_rate = rates[dice.index(rates.len())];

        let dev_eui = DevEui::from_be_bytes((DEV_EUI_FIRST + u64::from(place)).to_be_bytes());
        let radio_seed = seed.bytes(&format!("radio {name}"));
        let mut config = DeviceConfig::otaa(region, dev_eui, JOIN_EUI, app_key.clone(), radio_seed);
        config.confirmed_tries = scenario.workload.tries;
        config.data_rate = data_rate;
        config.version = match scenario.devices.version {
            scenario::DeviceVersion::V1_0_3 => DeviceVersion::V1_0_3,
            scenario::DeviceVersion::V1_0_4 => DeviceVersion::V1_0_4,
        };
        let devices = &scenario.devices;
        let personal = (place < devices.abp && !is_probe).then(|| {
            let [nwk_s_key, app_s_key] = keys;
            let keys = SessionKeys::V1_0 { nwk_s_key, app_s_key };
            let (first_fcnt, may_reset) = (devices.first_fcnt, devices.skip_fcnt_check);
            Personal { dev_addr, keys, first_fcnt, may_reset }
        });
        if let Some(Personal { dev_addr, keys, first_fcnt, .. }) = &personal {
            config.activation = Activation::Abp { dev_addr: *dev_addr, keys: keys.clone() };
            config.first_fcnt = *first_fcnt;
        }
        Self { root: Root { join_eui: JOIN_EUI, app_key, personal }, config }
    }
}

fn key(dice: &mut Dice) -> Key {
    let mut bytes = [0; 16];
    dice.fill(&mut bytes);
    Key::from_bytes(bytes)
}

/// The region of a scenario, whose name was checked when it was read.
pub(super) fn region(scenario: &Scenario) -> &'static Region {
    Region::from_name(&scenario.nodes.region).unwrap_or(&lorawan::EU868)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(text: &str, name: &str) -> Kit {
        let text = format!("title = \"t\"\nduration = \"1s\"\n{text}");
        let scenario = Scenario::parse("t.toml", &text).unwrap();
        Kit::draw(&scenario, Seed(1), (0, name), name == "probe")
    }

    #[test]
    fn personalisation_changes_nothing_else_about_a_device() {
        let joins = kit("", "dev1");
        let text = "[devices]\nabp = 1\nfirst_fcnt = 65530\nskip_fcnt_check = true";
        let personal = kit(text, "dev1");
        assert_eq!(joins.root.app_key, personal.root.app_key);
        assert_eq!(joins.config.data_rate, personal.config.data_rate);
        assert_eq!(joins.config.first_fcnt, 0);
        assert_eq!(personal.config.first_fcnt, 65_530);
        let session = personal.root.personal.unwrap();
        assert!(session.may_reset && session.dev_addr.to_u32() <= ADDRESS_MASK);
        assert!(kit(text, "probe").root.personal.is_none(), "the probe always joins");
    }
}
