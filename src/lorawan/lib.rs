//! LoRaWAN as bytes and numbers: identifiers, keys, the PHYPayload codec, MAC commands, crypto,
//! regional parameters, and the values [`Uplink`], [`Downlink`] and [`TxAck`] that stand between
//! gateway dialects and the network server. Knows no socket, clock, dice or state.

mod airtime;
mod channel_mask;
mod command;
mod command_down;
mod command_up;
mod crypto;
mod data;
mod derive;
mod fcnt;
mod frame;
mod freq;
mod ids;
mod join;
mod keys;
mod radio;
mod region;
mod region_eu868;
mod region_rate;
mod region_us915;
mod rejoin;
mod relay;
mod session;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod region_tests;
#[cfg(test)]
mod roundtrip;

pub use airtime::airtime;
pub use channel_mask::{
    CHANNEL_COUNT_MAX, ChannelMask, ChannelTextError, ReservedChMaskCntl, parse_channels,
};
pub use command::{DeviceMode, MacCommand, MacCommandError, MacCommands};
pub use command_down::{DownlinkMacCommand, LINK_ADR_KEEP, LinkAdrReq};
pub use command_up::UplinkMacCommand;
pub use crypto::{
    Aes, Direction, FCntKind, Mic, MicContext, apply_f_opts_cipher, apply_payload_cipher,
    downlink_mic_1_1, mic_1_0, mic_eq, uplink_mic_1_1,
};
pub use data::{Ciphers1_1, DataFrame, DataMessage, F_OPTS_LEN_MAX, FCtrl};
pub use derive::{derive_js_enc_key, derive_js_int_key, derive_session_1_0, derive_session_1_1};
pub use fcnt::{FCntExhausted, fcnt_candidates};
pub use frame::{
    EncodeError, Frame, MType, PHY_PAYLOAD_LEN_MAX, ParseError, Signed, encode_proprietary,
};
pub use ids::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, NetId, ParseIdError};
pub use join::{
    CF_LIST_FREQUENCIES, CF_LIST_MASKS, CfList, DecryptedJoinAccept, EncryptedJoinAccept,
    JoinAccept, JoinAcceptError, JoinContext, JoinReqType, JoinRequest,
};
pub use keys::Key;
pub use radio::{
    CodeRate, CrcStatus, Downlink, DownlinkTiming, LrFhssCodeRate, Modulation, TxAck, TxStatus,
    Uplink,
};
pub use region::{
    CfListKind, ChMaskCntl, Channel, ChannelBlock, ClassB, DataRate, JOIN_ACCEPT_DELAY1,
    MAX_FCNT_GAP, MaxPayload, RECEIVE_DELAY1, REGIONS, RX2_AFTER_RX1, Region, Rx1Frequency,
    SubBand, UnknownRegion,
};
pub use region_eu868::EU868;
pub use region_us915::US915;
pub use rejoin::RejoinRequest;
pub use relay::{
    EndDeviceConf, FILTER_EUI_LEN_MAX, FilterAction, FilterRule, ForwardLimit, ForwardLimits,
    NewEndDevice, RelayActivation, RelayConf, ResetLimitCounter, SecondChannel, UplinkListEntry,
};
pub use session::{OpenedData, SessionCiphers, SessionKeys};
