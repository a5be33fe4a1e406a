//! MAC commands to a device. Source: LoRaWAN 1.0.4 §5, 1.1 §5 and §18, TS011-1.0.1 §11.

use clock::GpsTime;

use crate::command::{DeviceMode, MacCommand, MacCommandError, take};
use crate::freq::{freq_from_bytes, freq_to_bytes};
use crate::relay::{EndDeviceConf, FilterRule, ForwardLimits, RelayConf, UplinkListEntry};

/// TXPower and data rate of a LinkADRReq that leave what is (LoRaWAN 1.0.4 §5.3).
pub const LINK_ADR_KEEP: u8 = 0x0F;

/// LinkADRReq: data rate, power, channels, repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAdrReq {
    /// 0..=15; 15 keeps what is, from 1.0.4 on.
    pub data_rate: u8,
    /// Index into the region's steps, 0..=15; 15 keeps what is, from 1.0.4 on.
    pub tx_power: u8,
    /// Sixteen channels, which ones `ch_mask_cntl` says.
    pub ch_mask: u16,
    /// 0..=7, meaning by region.
    pub ch_mask_cntl: u8,
    /// How often each unconfirmed uplink is sent, 1..=15; 0 keeps what is.
    pub nb_trans: u8,
}

/// A MAC command to a device. `..Ans` and `..Conf` answer the device, `..Req` ask something of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownlinkMacCommand {
    /// 0x01.
    ResetConf {
        /// Minor version of LoRaWAN 1.x in use, 0..=15.
        minor: u8,
    },
    /// 0x02.
    LinkCheckAns {
        /// Margin above the demodulation floor, 0..=254 dB.
        margin_db: u8,
        /// Gateways that heard the LinkCheckReq.
        gateway_count: u8,
    },
    /// 0x03.
    LinkAdrReq(LinkAdrReq),
    /// 0x04.
    DutyCycleReq {
        /// 0..=15: at most 1 / 2^n of the time.
        max_duty_cycle: u8,
    },
    /// 0x05.
    RxParamSetupReq {
        /// 0..=7.
        rx1_dr_offset: u8,
        /// 0..=15.
        rx2_dr: u8,
        /// RX2 frequency in hertz.
        freq_hz: u32,
    },
    /// 0x06.
    DevStatusReq,
    /// 0x07, dynamic plans only.
    NewChannelReq {
        /// Which channel.
        ch_index: u8,
        /// Hertz; 0 removes the channel.
        freq_hz: u32,
        /// 0..=15.
        min_dr: u8,
        /// 0..=15.
        max_dr: u8,
    },
    /// 0x08.
    RxTimingSetupReq {
        /// Seconds to RX1, 0..=15; 0 means 1.
        delay: u8,
    },
    /// 0x09.
    TxParamSetupReq {
        /// Downlinks last at most 400 ms.
        downlink_dwell_time: bool,
        /// Uplinks last at most 400 ms.
        uplink_dwell_time: bool,
        /// 0..=15, an index into the table of the specification: 8, 10, 12, 13, 14, 16, 18, 20,
        /// 21, 24, 26, 27, 29, 30, 33, 36 dBm.
        max_eirp_index: u8,
    },
    /// 0x0A.
    DlChannelReq {
        /// Which channel.
        ch_index: u8,
        /// RX1 frequency in hertz.
        freq_hz: u32,
    },
    /// 0x0B.
    RekeyConf {
        /// Minor version of LoRaWAN 1.x in use, 0..=15.
        minor: u8,
    },
    /// 0x0C.
    AdrParamSetupReq {
        /// 0..=15: ADR_ACK_LIMIT is 2^n.
        limit_exp: u8,
        /// 0..=15: ADR_ACK_DELAY is 2^n.
        delay_exp: u8,
    },
    /// 0x0D: the time at the end of the uplink that asked.
    DeviceTimeAns {
        /// Seconds since the GPS epoch.
        gps_seconds: u32,
        /// 1/256 of a second.
        fraction: u8,
    },
    /// 0x0E, has no answer.
    ForceRejoinReq {
        /// 0..=7: repeated every 32 x 2^n seconds and a little.
        period: u8,
        /// 0..=7 repetitions.
        max_retries: u8,
        /// 0 or 2.
        rejoin_type: u8,
        /// 0..=15.
        data_rate: u8,
    },
    /// 0x0F.
    RejoinParamSetupReq {
        /// 0..=15: a rejoin at least every 2^(n+10) seconds.
        max_time_n: u8,
        /// 0..=15: a rejoin at least every 2^(n+4) uplinks.
        max_count_n: u8,
    },
    /// 0x10.
    PingSlotInfoAns,
    /// 0x11.
    PingSlotChannelReq {
        /// Hertz; 0 is the region's own.
        freq_hz: u32,
        /// 0..=15.
        data_rate: u8,
    },
    /// 0x12, deprecated.
    BeaconTimingAns {
        /// The next beacon comes between `delay` and `delay + 1` times 30 ms.
        delay: u16,
        /// The channel it comes on.
        channel: u8,
    },
    /// 0x13.
    BeaconFreqReq {
        /// Hertz; 0 is the region's own.
        freq_hz: u32,
    },
    /// 0x20.
    DeviceModeConf {
        /// The class in use.
        mode: DeviceMode,
    },
    /// 0x40.
    RelayConfReq(RelayConf),
    /// 0x41.
    EndDeviceConfReq(EndDeviceConf),
    /// 0x42.
    FilterListReq(FilterRule),
    /// 0x43.
    UpdateUplinkListReq(UplinkListEntry),
    /// 0x44.
    CtrlUplinkListReq {
        /// 0..=15.
        index: u8,
        /// Removes the entry; otherwise only its counter is asked.
        remove: bool,
    },
    /// 0x45.
    ConfigureFwdLimitReq(ForwardLimits),
}

impl MacCommand for DownlinkMacCommand {
    fn read(cid: u8, after: &[u8]) -> Result<(Self, &[u8]), MacCommandError> {
        match cid {
            0x06 => Ok((Self::DevStatusReq, after)),
            0x10 => Ok((Self::PingSlotInfoAns, after)),
            0x42 => {
                FilterRule::read(cid, after).map(|(rule, rest)| (Self::FilterListReq(rule), rest))
            }
            0x40..=0x45 => Self::read_relay(cid, after),
            0x01 | 0x04 | 0x08 | 0x09 | 0x0B | 0x0C | 0x0F | 0x20 => {
                let ([byte], rest) = take(cid, after)?;
                Ok((Self::of_byte(cid, byte), rest))
            }
            0x02 | 0x0E => {
                let ([low, high], rest) = take(cid, after)?;
                Ok((Self::of_two(cid, low, high), rest))
            }
            0x03 | 0x05 | 0x0A | 0x11 => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::of_four(cid, payload), rest))
            }
            0x12 | 0x13 => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::of_three(cid, payload), rest))
            }
            0x07 => {
                let ([ch_index, freq @ .., rates], rest) = take::<5>(cid, after)?;
                let freq_hz = freq_from_bytes(freq);
                let (min_dr, max_dr) = (rates & 0x0F, rates >> 4);
                Ok((Self::NewChannelReq { ch_index, freq_hz, min_dr, max_dr }, rest))
            }
            0x0D => {
                let ([seconds @ .., fraction], rest) = take::<5>(cid, after)?;
                let gps_seconds = u32::from_le_bytes(seconds);
                Ok((Self::DeviceTimeAns { gps_seconds, fraction }, rest))
            }
            _ => Err(MacCommandError::UnknownCid { cid, unread: after.len() }),
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
            Self::DevStatusReq | Self::PingSlotInfoAns => {}
            Self::ResetConf { minor } | Self::RekeyConf { minor } => out.push(minor & 0x0F),
            Self::LinkCheckAns { margin_db, gateway_count } => {
                out.extend([*margin_db, *gateway_count]);
            }
            Self::LinkAdrReq(request) => request.encode(out),
            Self::DutyCycleReq { max_duty_cycle } => out.push(max_duty_cycle & 0x0F),
            Self::RxParamSetupReq { rx1_dr_offset, rx2_dr, freq_hz } => {
                out.push((rx1_dr_offset & 0x07) << 4 | rx2_dr & 0x0F);
                out.extend(freq_to_bytes(*freq_hz));
            }
            Self::NewChannelReq { ch_index, freq_hz, min_dr, max_dr } => {
                out.push(*ch_index);
                out.extend(freq_to_bytes(*freq_hz));
                out.push(max_dr << 4 | min_dr & 0x0F);
            }
            Self::RxTimingSetupReq { delay } => out.push(delay & 0x0F),
            Self::TxParamSetupReq { downlink_dwell_time, uplink_dwell_time, max_eirp_index } => {
                let dwell = u8::from(*downlink_dwell_time) << 5 | u8::from(*uplink_dwell_time) << 4;
                out.push(dwell | max_eirp_index & 0x0F);
            }
            Self::DlChannelReq { ch_index, freq_hz } => {
                out.push(*ch_index);
                out.extend(freq_to_bytes(*freq_hz));
            }
            Self::AdrParamSetupReq { limit_exp: high, delay_exp: low }
            | Self::RejoinParamSetupReq { max_time_n: high, max_count_n: low } => {
                out.push(high << 4 | low & 0x0F);
            }
            Self::DeviceTimeAns { gps_seconds, fraction } => {
                out.extend(gps_seconds.to_le_bytes());
                out.push(*fraction);
            }
            Self::ForceRejoinReq { period, max_retries, rejoin_type, data_rate } => {
                out.push((rejoin_type & 0x07) << 4 | data_rate & 0x0F);
                out.push((period & 0x07) << 3 | max_retries & 0x07);
            }
            Self::PingSlotChannelReq { freq_hz, data_rate } => {
                out.extend(freq_to_bytes(*freq_hz));
                out.push(data_rate & 0x0F);
            }
            Self::BeaconTimingAns { delay, channel } => {
                out.extend(delay.to_le_bytes());
                out.push(*channel);
            }
            Self::BeaconFreqReq { freq_hz } => out.extend(freq_to_bytes(*freq_hz)),
            Self::DeviceModeConf { mode } => out.push(mode.to_byte()),
            Self::RelayConfReq(conf) => conf.encode(out),
            Self::EndDeviceConfReq(conf) => conf.encode(out),
            Self::FilterListReq(rule) => rule.encode(out),
            Self::UpdateUplinkListReq(entry) => entry.encode(out),
            Self::CtrlUplinkListReq { index, remove } => {
                out.push(u8::from(*remove) << 4 | index & 0x0F);
            }
            Self::ConfigureFwdLimitReq(limits) => limits.encode(out),
        }
    }
}

impl LinkAdrReq {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.data_rate << 4 | self.tx_power & 0x0F);
        out.extend(self.ch_mask.to_le_bytes());
        out.push((self.ch_mask_cntl & 0x07) << 4 | self.nb_trans & 0x0F);
    }
}

impl DownlinkMacCommand {
    /// A DeviceTimeAns that says `time`, rounded down to 1/256 of a second.
    ///
    /// Past the year 2116, where 32 bits of seconds end, it says the last moment they can.
    pub fn device_time(time: GpsTime) -> Self {
        let micros = time.as_micros();
        match u32::try_from(micros / 1_000_000) {
            Ok(gps_seconds) => {
                let fraction =
                    u8::try_from(micros % 1_000_000 * 256 / 1_000_000).unwrap_or(u8::MAX);
                Self::DeviceTimeAns { gps_seconds, fraction }
            }
            Err(_) => Self::DeviceTimeAns { gps_seconds: u32::MAX, fraction: u8::MAX },
        }
    }

    /// The commands of one byte; `read` has made sure that it is one.
    const fn of_byte(cid: u8, byte: u8) -> Self {
        match cid {
            0x01 => Self::ResetConf { minor: byte & 0x0F },
            0x04 => Self::DutyCycleReq { max_duty_cycle: byte & 0x0F },
            0x08 => Self::RxTimingSetupReq { delay: byte & 0x0F },
            0x09 => Self::TxParamSetupReq {
                downlink_dwell_time: byte & 0x20 != 0,
                uplink_dwell_time: byte & 0x10 != 0,
                max_eirp_index: byte & 0x0F,
            },
            0x0B => Self::RekeyConf { minor: byte & 0x0F },
            0x0C => Self::AdrParamSetupReq { limit_exp: byte >> 4, delay_exp: byte & 0x0F },
            0x0F => Self::RejoinParamSetupReq { max_time_n: byte >> 4, max_count_n: byte & 0x0F },
            _ => Self::DeviceModeConf { mode: DeviceMode::from_byte(byte) },
        }
    }

    /// LinkCheckAns and ForceRejoinReq.
    const fn of_two(cid: u8, low: u8, high: u8) -> Self {
        match cid {
            0x02 => Self::LinkCheckAns { margin_db: low, gateway_count: high },
            _ => Self::ForceRejoinReq {
                period: high >> 3 & 0x07,
                max_retries: high & 0x07,
                rejoin_type: low >> 4 & 0x07,
                data_rate: low & 0x0F,
            },
        }
    }

    /// BeaconTimingAns and BeaconFreqReq.
    fn of_three(cid: u8, payload: [u8; 3]) -> Self {
        let [low, high, channel] = payload;
        match cid {
            0x12 => Self::BeaconTimingAns { delay: u16::from_le_bytes([low, high]), channel },
            _ => Self::BeaconFreqReq { freq_hz: freq_from_bytes(payload) },
        }
    }

    /// LinkADRReq, RXParamSetupReq, DlChannelReq and PingSlotChannelReq.
    fn of_four(cid: u8, [a, b, c, d]: [u8; 4]) -> Self {
        match cid {
            0x03 => Self::LinkAdrReq(LinkAdrReq {
                data_rate: a >> 4,
                tx_power: a & 0x0F,
                ch_mask: u16::from_le_bytes([b, c]),
                ch_mask_cntl: d >> 4 & 0x07,
                nb_trans: d & 0x0F,
            }),
            0x05 => Self::RxParamSetupReq {
                rx1_dr_offset: a >> 4 & 0x07,
                rx2_dr: a & 0x0F,
                freq_hz: freq_from_bytes([b, c, d]),
            },
            0x0A => Self::DlChannelReq { ch_index: a, freq_hz: freq_from_bytes([b, c, d]) },
            _ => Self::PingSlotChannelReq {
                freq_hz: freq_from_bytes([a, b, c]),
                data_rate: d & 0x0F,
            },
        }
    }

    fn read_relay(cid: u8, after: &[u8]) -> Result<(Self, &[u8]), MacCommandError> {
        match cid {
            0x40 => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::RelayConfReq(RelayConf::read(payload)), rest))
            }
            0x41 => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::EndDeviceConfReq(EndDeviceConf::read(payload)), rest))
            }
            0x43 => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::UpdateUplinkListReq(UplinkListEntry::read(payload)), rest))
            }
            0x44 => {
                let ([byte], rest) = take(cid, after)?;
                let (index, remove) = (byte & 0x0F, byte & 0x10 != 0);
                Ok((Self::CtrlUplinkListReq { index, remove }, rest))
            }
            _ => {
                let (payload, rest) = take(cid, after)?;
                Ok((Self::ConfigureFwdLimitReq(ForwardLimits::read(payload)), rest))
            }
        }
    }

    const fn cid_and_name(&self) -> (u8, &'static str) {
        match self {
            Self::ResetConf { .. } => (0x01, "ResetConf"),
            Self::LinkCheckAns { .. } => (0x02, "LinkCheckAns"),
            Self::LinkAdrReq(_) => (0x03, "LinkADRReq"),
            Self::DutyCycleReq { .. } => (0x04, "DutyCycleReq"),
            Self::RxParamSetupReq { .. } => (0x05, "RXParamSetupReq"),
            Self::DevStatusReq => (0x06, "DevStatusReq"),
            Self::NewChannelReq { .. } => (0x07, "NewChannelReq"),
            Self::RxTimingSetupReq { .. } => (0x08, "RXTimingSetupReq"),
            Self::TxParamSetupReq { .. } => (0x09, "TxParamSetupReq"),
            Self::DlChannelReq { .. } => (0x0A, "DlChannelReq"),
            Self::RekeyConf { .. } => (0x0B, "RekeyConf"),
            Self::AdrParamSetupReq { .. } => (0x0C, "ADRParamSetupReq"),
            Self::DeviceTimeAns { .. } => (0x0D, "DeviceTimeAns"),
            Self::ForceRejoinReq { .. } => (0x0E, "ForceRejoinReq"),
            Self::RejoinParamSetupReq { .. } => (0x0F, "RejoinParamSetupReq"),
            Self::PingSlotInfoAns => (0x10, "PingSlotInfoAns"),
            Self::PingSlotChannelReq { .. } => (0x11, "PingSlotChannelReq"),
            Self::BeaconTimingAns { .. } => (0x12, "BeaconTimingAns"),
            Self::BeaconFreqReq { .. } => (0x13, "BeaconFreqReq"),
            Self::DeviceModeConf { .. } => (0x20, "DeviceModeConf"),
            Self::RelayConfReq(_) => (0x40, "RelayConfReq"),
            Self::EndDeviceConfReq(_) => (0x41, "EndDeviceConfReq"),
            Self::FilterListReq(_) => (0x42, "FilterListReq"),
            Self::UpdateUplinkListReq(_) => (0x43, "UpdateUplinkListReq"),
            Self::CtrlUplinkListReq { .. } => (0x44, "CtrlUplinkListReq"),
            Self::ConfigureFwdLimitReq(_) => (0x45, "ConfigureFwdLimitReq"),
        }
    }
}
