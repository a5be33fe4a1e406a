//! Why a frame concerns nobody here. One variant is one reason of the metric; nothing of it reaches
//! the log.

use lorawan::{
    DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, MType, Modulation, ParseError,
};

/// Why a frame was not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UplinkError {
    /// The radio saw a wrong checksum.
    #[error("the radio's checksum is wrong")]
    Crc,
    /// Not a LoRaWAN frame.
    #[error("not a LoRaWAN frame: {0}")]
    Parse(#[from] ParseError),
    /// A kind of frame that no device sends, or that this version does not serve.
    #[error("a {mtype:?} is not served")]
    Unserved {
        /// Which.
        mtype: MType,
    },
    /// The gateway is not registered.
    #[error("gateway {gateway} is not registered")]
    UnknownGateway {
        /// Which.
        gateway: GatewayEui,
    },
    /// No session has this address.
    #[error("no device has the address {dev_addr}")]
    UnknownDevAddr {
        /// Which.
        dev_addr: DevAddr,
        /// It lies in this network's own range.
        ours: bool,
    },
    /// No session of the address made this MIC.
    #[error("MIC wrong for {dev_addr}")]
    Mic {
        /// The address.
        dev_addr: DevAddr,
        /// The device, if only one has the address.
        dev_eui: Option<DevEui>,
    },
    /// The device is switched off.
    #[error("device {dev_eui} is disabled")]
    Disabled {
        /// Which.
        dev_eui: DevEui,
    },
    /// The session speaks a version that is not served yet.
    #[error("device {dev_eui} speaks LoRaWAN 1.1, which is not served yet")]
    Version {
        /// Which.
        dev_eui: DevEui,
    },
    /// Device, session or permission went while the frame was in hand.
    #[error("device {dev_eui} or its session is gone")]
    Gone {
        /// Which.
        dev_eui: DevEui,
    },
    /// The session's keys cannot be opened on this node.
    #[error("the keys of device {dev_eui} cannot be opened")]
    KeysClosed {
        /// Which.
        dev_eui: DevEui,
    },
    /// The counter is below the last one.
    #[error("FCnt {f_cnt} of device {dev_eui} is below {last}")]
    FCntTooLow {
        /// Device.
        dev_eui: DevEui,
        /// Seen.
        f_cnt: u32,
        /// The last one accepted.
        last: u32,
    },
    /// The counter is too far above the last one.
    #[error("FCnt {f_cnt} of device {dev_eui} is more than 16384 above {last}")]
    FCntGap {
        /// Device.
        dev_eui: DevEui,
        /// Seen.
        f_cnt: u32,
        /// The last one accepted.
        last: u32,
    },
    /// The last counter again, with other content.
    #[error("FCnt {f_cnt} of device {dev_eui} came before with other content")]
    FCntConflict {
        /// Device.
        dev_eui: DevEui,
        /// Seen.
        f_cnt: u32,
    },
    /// The region has no such data rate.
    #[error("{modulation:?} is no data rate of {region}")]
    DataRate {
        /// How it was sent.
        modulation: Modulation,
        /// Where.
        region: String,
    },
    /// The profile names a region that this version does not know.
    #[error("device {dev_eui} is in region {region}, which is not known")]
    Region {
        /// Device.
        dev_eui: DevEui,
        /// The name.
        region: String,
    },
    /// No device has this DevEUI.
    #[error("join from {dev_eui}: unknown DevEUI")]
    UnknownDevEui {
        /// Which.
        dev_eui: DevEui,
        /// The join server it names.
        join_eui: JoinEui,
    },
    /// No device has this DevEUI, but one has its bytes in reverse.
    #[error("join from {dev_eui}: DevEUI looks reversed")]
    DevEuiReversed {
        /// As the device sends it.
        dev_eui: DevEui,
        /// As it is registered.
        registered: DevEui,
    },
    /// The device names another join server than registered.
    #[error("join from {dev_eui}: JoinEUI {seen} instead of {registered}")]
    JoinEui {
        /// Device.
        dev_eui: DevEui,
        /// As the device sends it.
        seen: JoinEui,
        /// As it is registered.
        registered: JoinEui,
    },
    /// Its profile does not allow activation over the air.
    #[error("join from {dev_eui}: its profile is for ABP")]
    JoinNotAllowed {
        /// Device.
        dev_eui: DevEui,
    },
    /// It has no root key.
    #[error("join from {dev_eui}: no AppKey is set")]
    NoRootKey {
        /// Device.
        dev_eui: DevEui,
    },
    /// Its key made another MIC.
    #[error("join from {dev_eui}: MIC wrong")]
    JoinMic {
        /// Device.
        dev_eui: DevEui,
    },
    /// It has used this nonce before.
    #[error("join from {dev_eui}: DevNonce {} was used before", dev_nonce.0)]
    DevNonceUsed {
        /// Device.
        dev_eui: DevEui,
        /// Nonce.
        dev_nonce: DevNonce,
    },
    /// No JoinNonce is left under its root key.
    #[error("join from {dev_eui}: JoinNonce {} does not fit 24 bits", next.0)]
    JoinNonceExhausted {
        /// Device.
        dev_eui: DevEui,
        /// The next one.
        next: JoinNonce,
    },
    /// More frames are in hand than this node can hold.
    #[error("{frames} frames are in hand")]
    Overloaded {
        /// How many.
        frames: usize,
    },
}

impl UplinkError {
    /// The reason as a metric's label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Crc => "crc",
            Self::Parse(_) => "parse",
            Self::Unserved { .. } => "unserved",
            Self::UnknownGateway { .. } => "unknown_gateway",
            Self::UnknownDevAddr { .. } => "unknown_dev_addr",
            Self::Mic { .. } => "mic",
            Self::Disabled { .. } => "disabled",
            Self::Version { .. } => "version",
            Self::Gone { .. } => "gone",
            Self::KeysClosed { .. } => "keys_closed",
            Self::FCntTooLow { .. } => "f_cnt_too_low",
            Self::FCntGap { .. } => "f_cnt_gap",
            Self::FCntConflict { .. } => "f_cnt_conflict",
            Self::DataRate { .. } => "data_rate",
            Self::Region { .. } => "region",
            Self::UnknownDevEui { .. } => "unknown_dev_eui",
            Self::DevEuiReversed { .. } => "dev_eui_reversed",
            Self::JoinEui { .. } => "join_eui",
            Self::JoinNotAllowed { .. } => "join_not_allowed",
            Self::NoRootKey { .. } => "no_root_key",
            Self::JoinMic { .. } => "join_mic",
            Self::DevNonceUsed { .. } => "dev_nonce_used",
            Self::JoinNonceExhausted { .. } => "join_nonce_exhausted",
            Self::Overloaded { .. } => "overloaded",
        }
    }

    /// What to do about it, in one sentence; `None` where there is nothing to mend here.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Crc | Self::Parse(_) | Self::Unserved { .. } | Self::Gone { .. } => return None,
            Self::UnknownGateway { gateway } => format!("tern gateway add {gateway}"),
            Self::UnknownDevAddr { ours: false, .. } => return None,
            Self::UnknownDevAddr { .. } => {
                "its session is gone: let it join anew, or activate it (ABP)".into()
            }
            Self::Mic { .. } => {
                "check NwkSKey (ABP), or whether the device missed a new activation".into()
            }
            Self::Disabled { dev_eui } => format!("tern device set {dev_eui} --enabled"),
            Self::Version { .. } => "set the device to LoRaWAN 1.0.x".into(),
            Self::KeysClosed { .. } => "this node lacks the key file of the data folder".into(),
            Self::FCntTooLow { .. } | Self::FCntConflict { .. } => {
                "an ABP device that restarts needs skipFcntCheck; an OTAA device must join".into()
            }
            Self::FCntGap { .. } => "let the device join anew, or activate it (ABP)".into(),
            Self::DataRate { .. } => "check the region of the device profile".into(),
            Self::Region { .. } => "change the region of the device profile".into(),
            Self::UnknownDevEui { dev_eui, .. } => format!("tern device add {dev_eui}"),
            Self::DevEuiReversed { registered, .. } => {
                format!("swap the byte order of {registered} here or in the device")
            }
            Self::JoinEui { seen, .. } => format!("set the device's JoinEUI to {seen}"),
            Self::JoinNotAllowed { .. } => "give the device a profile that supports OTAA".into(),
            Self::NoRootKey { dev_eui } => format!("tern device set-keys {dev_eui} --app-key .."),
            Self::JoinMic { .. } => "check AppKey".into(),
            Self::DevNonceUsed { dev_eui, .. } => {
                format!("a device that forgets its nonces: tern device flush-nonces {dev_eui}")
            }
            Self::JoinNonceExhausted { .. } => "give the device a new AppKey".into(),
            Self::Overloaded { .. } => "this node is too slow for its gateways".into(),
        })
    }

    /// The device concerned, if it is known.
    #[must_use]
    pub const fn dev_eui(&self) -> Option<DevEui> {
        match self {
            Self::Mic { dev_eui, .. } => *dev_eui,
            Self::Disabled { dev_eui }
            | Self::Version { dev_eui }
            | Self::Gone { dev_eui }
            | Self::KeysClosed { dev_eui }
            | Self::FCntTooLow { dev_eui, .. }
            | Self::FCntGap { dev_eui, .. }
            | Self::FCntConflict { dev_eui, .. }
            | Self::Region { dev_eui, .. }
            | Self::UnknownDevEui { dev_eui, .. }
            | Self::DevEuiReversed { dev_eui, .. }
            | Self::JoinEui { dev_eui, .. }
            | Self::JoinNotAllowed { dev_eui }
            | Self::NoRootKey { dev_eui }
            | Self::JoinMic { dev_eui }
            | Self::DevNonceUsed { dev_eui, .. }
            | Self::JoinNonceExhausted { dev_eui, .. } => Some(*dev_eui),
            Self::Crc
            | Self::Parse(_)
            | Self::Unserved { .. }
            | Self::UnknownGateway { .. }
            | Self::UnknownDevAddr { .. }
            | Self::DataRate { .. }
            | Self::Overloaded { .. } => None,
        }
    }

    /// The address concerned, if the frame carries one.
    #[must_use]
    pub const fn dev_addr(&self) -> Option<DevAddr> {
        match self {
            Self::UnknownDevAddr { dev_addr, .. } | Self::Mic { dev_addr, .. } => Some(*dev_addr),
            Self::Crc
            | Self::Parse(_)
            | Self::Unserved { .. }
            | Self::UnknownGateway { .. }
            | Self::Disabled { .. }
            | Self::Version { .. }
            | Self::Gone { .. }
            | Self::KeysClosed { .. }
            | Self::FCntTooLow { .. }
            | Self::FCntGap { .. }
            | Self::FCntConflict { .. }
            | Self::DataRate { .. }
            | Self::Region { .. }
            | Self::UnknownDevEui { .. }
            | Self::DevEuiReversed { .. }
            | Self::JoinEui { .. }
            | Self::JoinNotAllowed { .. }
            | Self::NoRootKey { .. }
            | Self::JoinMic { .. }
            | Self::DevNonceUsed { .. }
            | Self::JoinNonceExhausted { .. }
            | Self::Overloaded { .. } => None,
        }
    }

    /// The `log` event that the device's application gets, if it gets one.
    #[must_use]
    pub(super) fn log_code(&self) -> Option<LogCode> {
        match self {
            Self::Mic { .. } => Some(LogCode::UplinkMic),
            Self::FCntTooLow { .. } | Self::FCntConflict { .. } | Self::FCntGap { .. } => {
                Some(LogCode::UplinkFCntReset)
            }
            Self::JoinEui { .. }
            | Self::JoinNotAllowed { .. }
            | Self::NoRootKey { .. }
            | Self::JoinMic { .. }
            | Self::DevNonceUsed { .. }
            | Self::JoinNonceExhausted { .. } => Some(LogCode::Otaa),
            Self::Crc
            | Self::Parse(_)
            | Self::Unserved { .. }
            | Self::UnknownGateway { .. }
            | Self::UnknownDevAddr { .. }
            | Self::Disabled { .. }
            | Self::Version { .. }
            | Self::Gone { .. }
            | Self::KeysClosed { .. }
            | Self::DataRate { .. }
            | Self::Region { .. }
            | Self::UnknownDevEui { .. }
            | Self::DevEuiReversed { .. }
            | Self::Overloaded { .. } => None,
        }
    }
}

/// The codes of `log` events that the log does not decide, as the field's applications know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogCode {
    /// Activation over the air.
    Otaa,
    /// MIC wrong.
    UplinkMic,
    /// A counter that is not above the last one.
    UplinkFCntReset,
    /// A frame again.
    UplinkFCntRetransmission,
    /// No gateway would send a downlink.
    DownlinkGateway,
    /// Downlink counters.
    FCntDown,
}

impl LogCode {
    /// As the event carries it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Otaa => "OTAA",
            Self::UplinkMic => "UPLINK_MIC",
            Self::UplinkFCntReset => "UPLINK_F_CNT_RESET",
            Self::UplinkFCntRetransmission => "UPLINK_F_CNT_RETRANSMISSION",
            Self::DownlinkGateway => "DOWNLINK_GATEWAY",
            Self::FCntDown => "F_CNT_DOWN",
        }
    }
}
