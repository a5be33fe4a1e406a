//! MAC commands from a device. Source: LoRaWAN 1.0.4 §5, 1.1 §5 and §18, TS011-1.0.1 §11.

use crate::command::{DeviceMode, MacCommand, MacCommandError, bit, byte_of, take};
use crate::relay::NewEndDevice;

/// A MAC command from a device. `..Ans` answers a request of the network, `..Req` and `..Ind` come
/// unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkMacCommand {
    /// 0x01: an ABP device of 1.1 has started anew.
    ResetInd {
        /// Minor version of LoRaWAN 1.x it speaks, 0..=15.
        minor: u8,
    },
    /// 0x02: asks how well it is heard.
    LinkCheckReq,
    /// 0x03.
    LinkAdrAns {
        /// The channel mask is usable.
        ch_mask_ack: bool,
        /// The data rate is usable.
        data_rate_ack: bool,
        /// The power is usable.
        tx_power_ack: bool,
    },
    /// 0x04.
    DutyCycleAns,
    /// 0x05, repeated until a downlink arrives.
    RxParamSetupAns {
        /// The RX2 frequency is usable.
        channel_ack: bool,
        /// The RX2 data rate is usable.
        rx2_dr_ack: bool,
        /// The RX1 offset is usable.
        rx1_dr_offset_ack: bool,
    },
    /// 0x06.
    DevStatusAns {
        /// 0 external power, 1..=254 of the battery, 255 unknown.
        battery: u8,
        /// SNR of the last DevStatusReq in dB, -32..=31; clamped when written.
        margin_db: i8,
    },
    /// 0x07.
    NewChannelAns {
        /// The frequency is usable.
        channel_freq_ok: bool,
        /// The data rates are usable.
        dr_range_ok: bool,
    },
    /// 0x08, repeated until a downlink arrives.
    RxTimingSetupAns,
    /// 0x09.
    TxParamSetupAns,
    /// 0x0A, repeated until a downlink arrives.
    DlChannelAns {
        /// The frequency is usable.
        channel_freq_ok: bool,
        /// The uplink channel exists.
        uplink_freq_exists: bool,
    },
    /// 0x0B: an OTAA device of 1.1 uses its new session.
    RekeyInd {
        /// Minor version of LoRaWAN 1.x it speaks, 0..=15.
        minor: u8,
    },
    /// 0x0C.
    AdrParamSetupAns,
    /// 0x0D: asks for the time at the end of this uplink.
    DeviceTimeReq,
    /// 0x0F.
    RejoinParamSetupAns {
        /// The time limit is usable.
        time_ok: bool,
    },
    /// 0x10: tells how often it listens in class B.
    PingSlotInfoReq {
        /// 0..=7: a slot every 2^n seconds.
        periodicity: u8,
    },
    /// 0x11.
    PingSlotChannelAns {
        /// The frequency is usable.
        channel_freq_ok: bool,
        /// The data rate is usable.
        data_rate_ok: bool,
    },
    /// 0x12, deprecated: asks when the next beacon comes.
    BeaconTimingReq,
    /// 0x13.
    BeaconFreqAns {
        /// The frequency is usable.
        beacon_freq_ok: bool,
    },
    /// 0x20: a 1.1 device changes its class.
    DeviceModeInd {
        /// To which.
        mode: DeviceMode,
    },
    /// 0x40.
    RelayConfAns {
        /// The second channel's frequency is usable.
        second_channel_freq_ack: bool,
        /// The offset of its acknowledgements is usable.
        second_channel_ack_offset_ack: bool,
        /// Its data rate is usable.
        second_channel_dr_ack: bool,
        /// Its index is usable.
        second_channel_index_ack: bool,
        /// The default channel is usable.
        default_channel_index_ack: bool,
        /// The periodicity is usable.
        cad_periodicity_ack: bool,
    },
    /// 0x41.
    EndDeviceConfAns {
        /// The second channel's frequency is usable.
        second_channel_freq_ack: bool,
        /// Its data rate is usable.
        second_channel_dr_ack: bool,
        /// Its index is usable.
        second_channel_index_ack: bool,
        /// The back-off is usable.
        backoff_ack: bool,
    },
    /// 0x42.
    FilterListAns {
        /// The action is known.
        action_ack: bool,
        /// The length is usable.
        len_ack: bool,
        /// The rule fits the others.
        combined_rules_ack: bool,
    },
    /// 0x43.
    UpdateUplinkListAns,
    /// 0x44.
    CtrlUplinkListAns {
        /// The entry exists.
        index_ack: bool,
        /// Its wake-on-radio counter.
        wfcnt: u32,
    },
    /// 0x45.
    ConfigureFwdLimitAns,
    /// 0x46: a relay heard a device it does not know.
    NotifyNewEndDeviceReq(NewEndDevice),
}

impl MacCommand for UplinkMacCommand {
    fn read(cid: u8, after: &[u8]) -> Result<(Self, &[u8]), MacCommandError> {
        if let Some(command) = Self::bare(cid) {
            return Ok((command, after));
        }
        match cid {
            0x06 => {
                let ([battery, margin], rest) = take(cid, after)?;
                // Six bits, two's complement: shifted to the top and back they keep their sign.
                let margin_db = (margin << 2).cast_signed() >> 2;
                Ok((Self::DevStatusAns { battery, margin_db }, rest))
            }
            0x44 => {
                let ([status, wfcnt @ ..], rest) = take::<5>(cid, after)?;
                let wfcnt = u32::from_le_bytes(wfcnt);
                Ok((Self::CtrlUplinkListAns { index_ack: bit(status, 0), wfcnt }, rest))
            }
            0x46 => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::NotifyNewEndDeviceReq(NewEndDevice::read(payload)), rest))
            }
            _ => {
                let byte = after.first().copied().unwrap_or(0);
                let Some(command) = Self::of_byte(cid, byte) else {
                    return Err(MacCommandError::UnknownCid { cid, unread: after.len() });
                };
                let (_, rest) = take::<1>(cid, after)?;
                Ok((command, rest))
            }
        }
    }

    fn cid(&self) -> u8 {
        self.cid_and_name().0
    }

    fn name(&self) -> &'static str {
        self.cid_and_name().1
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.cid());
        match self {
            Self::DevStatusAns { battery, margin_db } => {
                out.extend([*battery, (*margin_db).clamp(-32, 31).cast_unsigned() & 0x3F]);
            }
            Self::CtrlUplinkListAns { index_ack, wfcnt } => {
                out.push(u8::from(*index_ack));
                out.extend_from_slice(&wfcnt.to_le_bytes());
            }
            Self::NotifyNewEndDeviceReq(device) => device.encode(out),
            Self::LinkCheckReq
            | Self::DutyCycleAns
            | Self::RxTimingSetupAns
            | Self::TxParamSetupAns
            | Self::AdrParamSetupAns
            | Self::DeviceTimeReq
            | Self::BeaconTimingReq
            | Self::UpdateUplinkListAns
            | Self::ConfigureFwdLimitAns => {}
            Self::ResetInd { .. }
            | Self::LinkAdrAns { .. }
            | Self::RxParamSetupAns { .. }
            | Self::NewChannelAns { .. }
            | Self::DlChannelAns { .. }
            | Self::RekeyInd { .. }
            | Self::RejoinParamSetupAns { .. }
            | Self::PingSlotInfoReq { .. }
            | Self::PingSlotChannelAns { .. }
            | Self::BeaconFreqAns { .. }
            | Self::DeviceModeInd { .. }
            | Self::RelayConfAns { .. }
            | Self::EndDeviceConfAns { .. }
            | Self::FilterListAns { .. } => out.push(self.to_byte()),
        }
    }
}

impl UplinkMacCommand {
    /// The commands that are their identifier alone.
    const fn bare(cid: u8) -> Option<Self> {
        Some(match cid {
            0x02 => Self::LinkCheckReq,
            0x04 => Self::DutyCycleAns,
            0x08 => Self::RxTimingSetupAns,
            0x09 => Self::TxParamSetupAns,
            0x0C => Self::AdrParamSetupAns,
            0x0D => Self::DeviceTimeReq,
            0x12 => Self::BeaconTimingReq,
            0x43 => Self::UpdateUplinkListAns,
            0x45 => Self::ConfigureFwdLimitAns,
            _ => return None,
        })
    }

    /// The commands with one byte.
    const fn of_byte(cid: u8, byte: u8) -> Option<Self> {
        Some(match cid {
            0x01 => Self::ResetInd { minor: byte & 0x0F },
            0x03 => Self::LinkAdrAns {
                ch_mask_ack: bit(byte, 0),
                data_rate_ack: bit(byte, 1),
                tx_power_ack: bit(byte, 2),
            },
            0x05 => Self::RxParamSetupAns {
                channel_ack: bit(byte, 0),
                rx2_dr_ack: bit(byte, 1),
                rx1_dr_offset_ack: bit(byte, 2),
            },
            0x07 => {
                Self::NewChannelAns { channel_freq_ok: bit(byte, 0), dr_range_ok: bit(byte, 1) }
            }
            0x0A => Self::DlChannelAns {
                channel_freq_ok: bit(byte, 0),
                uplink_freq_exists: bit(byte, 1),
            },
            0x0B => Self::RekeyInd { minor: byte & 0x0F },
            0x0F => Self::RejoinParamSetupAns { time_ok: bit(byte, 0) },
            0x10 => Self::PingSlotInfoReq { periodicity: byte & 0x07 },
            0x11 => Self::PingSlotChannelAns {
                channel_freq_ok: bit(byte, 0),
                data_rate_ok: bit(byte, 1),
            },
            0x13 => Self::BeaconFreqAns { beacon_freq_ok: bit(byte, 0) },
            0x20 => Self::DeviceModeInd { mode: DeviceMode::from_byte(byte) },
            0x40 => Self::RelayConfAns {
                second_channel_freq_ack: bit(byte, 0),
                second_channel_ack_offset_ack: bit(byte, 1),
                second_channel_dr_ack: bit(byte, 2),
                second_channel_index_ack: bit(byte, 3),
                default_channel_index_ack: bit(byte, 4),
                cad_periodicity_ack: bit(byte, 5),
            },
            0x41 => Self::EndDeviceConfAns {
                second_channel_freq_ack: bit(byte, 0),
                second_channel_dr_ack: bit(byte, 1),
                second_channel_index_ack: bit(byte, 2),
                backoff_ack: bit(byte, 3),
            },
            0x42 => Self::FilterListAns {
                action_ack: bit(byte, 0),
                len_ack: bit(byte, 1),
                combined_rules_ack: bit(byte, 2),
            },
            _ => return None,
        })
    }

    /// The byte of those; 0 for the others.
    fn to_byte(self) -> u8 {
        match self {
            Self::ResetInd { minor } | Self::RekeyInd { minor } => minor & 0x0F,
            Self::LinkAdrAns { ch_mask_ack: a, data_rate_ack: b, tx_power_ack: c }
            | Self::RxParamSetupAns { channel_ack: a, rx2_dr_ack: b, rx1_dr_offset_ack: c }
            | Self::FilterListAns { action_ack: a, len_ack: b, combined_rules_ack: c } => {
                byte_of(&[a, b, c])
            }
            Self::NewChannelAns { channel_freq_ok: a, dr_range_ok: b }
            | Self::DlChannelAns { channel_freq_ok: a, uplink_freq_exists: b }
            | Self::PingSlotChannelAns { channel_freq_ok: a, data_rate_ok: b } => byte_of(&[a, b]),
            Self::RejoinParamSetupAns { time_ok: a }
            | Self::BeaconFreqAns { beacon_freq_ok: a } => byte_of(&[a]),
            Self::PingSlotInfoReq { periodicity } => periodicity & 0x07,
            Self::DeviceModeInd { mode } => mode.to_byte(),
            Self::RelayConfAns {
                second_channel_freq_ack: a,
                second_channel_ack_offset_ack: b,
                second_channel_dr_ack: c,
                second_channel_index_ack: d,
                default_channel_index_ack: e,
                cad_periodicity_ack: f,
            } => byte_of(&[a, b, c, d, e, f]),
            Self::EndDeviceConfAns {
                second_channel_freq_ack: a,
                second_channel_dr_ack: b,
                second_channel_index_ack: c,
                backoff_ack: d,
            } => byte_of(&[a, b, c, d]),
            Self::LinkCheckReq
            | Self::DutyCycleAns
            | Self::DevStatusAns { .. }
            | Self::RxTimingSetupAns
            | Self::TxParamSetupAns
            | Self::AdrParamSetupAns
            | Self::DeviceTimeReq
            | Self::BeaconTimingReq
            | Self::UpdateUplinkListAns
            | Self::CtrlUplinkListAns { .. }
            | Self::ConfigureFwdLimitAns
            | Self::NotifyNewEndDeviceReq(_) => 0,
        }
    }

    const fn cid_and_name(&self) -> (u8, &'static str) {
        match self {
            Self::ResetInd { .. } => (0x01, "ResetInd"),
            Self::LinkCheckReq => (0x02, "LinkCheckReq"),
            Self::LinkAdrAns { .. } => (0x03, "LinkADRAns"),
            Self::DutyCycleAns => (0x04, "DutyCycleAns"),
            Self::RxParamSetupAns { .. } => (0x05, "RXParamSetupAns"),
            Self::DevStatusAns { .. } => (0x06, "DevStatusAns"),
            Self::NewChannelAns { .. } => (0x07, "NewChannelAns"),
            Self::RxTimingSetupAns => (0x08, "RXTimingSetupAns"),
            Self::TxParamSetupAns => (0x09, "TxParamSetupAns"),
            Self::DlChannelAns { .. } => (0x0A, "DlChannelAns"),
            Self::RekeyInd { .. } => (0x0B, "RekeyInd"),
            Self::AdrParamSetupAns => (0x0C, "ADRParamSetupAns"),
            Self::DeviceTimeReq => (0x0D, "DeviceTimeReq"),
            Self::RejoinParamSetupAns { .. } => (0x0F, "RejoinParamSetupAns"),
            Self::PingSlotInfoReq { .. } => (0x10, "PingSlotInfoReq"),
            Self::PingSlotChannelAns { .. } => (0x11, "PingSlotChannelAns"),
            Self::BeaconTimingReq => (0x12, "BeaconTimingReq"),
            Self::BeaconFreqAns { .. } => (0x13, "BeaconFreqAns"),
            Self::DeviceModeInd { .. } => (0x20, "DeviceModeInd"),
            Self::RelayConfAns { .. } => (0x40, "RelayConfAns"),
            Self::EndDeviceConfAns { .. } => (0x41, "EndDeviceConfAns"),
            Self::FilterListAns { .. } => (0x42, "FilterListAns"),
            Self::UpdateUplinkListAns => (0x43, "UpdateUplinkListAns"),
            Self::CtrlUplinkListAns { .. } => (0x44, "CtrlUplinkListAns"),
            Self::ConfigureFwdLimitAns => (0x45, "ConfigureFwdLimitAns"),
            Self::NotifyNewEndDeviceReq(_) => (0x46, "NotifyNewEndDeviceReq"),
        }
    }
}
