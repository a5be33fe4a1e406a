//! MAC commands as JSON, with the names that the vector files use for commands and fields.

use lorawan::{
    DeviceMode, DownlinkMacCommand, EndDeviceConf, FilterAction, FilterRule, ForwardLimits,
    LinkAdrReq, NewEndDevice, RelayActivation, RelayConf, ResetLimitCounter, SecondChannel,
    UplinkListEntry, UplinkMacCommand,
};
use serde_json::{Value, json};

/// `{"Name": {fields}}`, or `"Name"` for a command without any.
pub(super) fn uplink(command: &UplinkMacCommand) -> Value {
    use UplinkMacCommand as C;
    match *command {
        C::ResetInd { minor } => json!({"ResetInd": {"dev_lorawan_version": version(minor)}}),
        C::LinkCheckReq => json!("LinkCheckReq"),
        C::LinkAdrAns { ch_mask_ack, data_rate_ack, tx_power_ack } => json!({"LinkADRAns":
            {"ch_mask_ack": ch_mask_ack, "dr_ack": data_rate_ack, "tx_power_ack": tx_power_ack}}),
        C::DutyCycleAns => json!("DutyCycleAns"),
        C::RxParamSetupAns { channel_ack, rx2_dr_ack, rx1_dr_offset_ack } => json!({
            "RxParamSetupAns": {"channel_ack": channel_ack, "rx2_dr_ack": rx2_dr_ack,
                "rx1_dr_offset_ack": rx1_dr_offset_ack}}),
        C::DevStatusAns { battery, margin_db } => {
            json!({"DevStatusAns": {"battery": battery, "margin": margin_db}})
        }
        C::NewChannelAns { channel_freq_ok, dr_range_ok } => json!({"NewChannelAns":
            {"channel_freq_ok": channel_freq_ok, "dr_range_ok": dr_range_ok}}),
        C::RxTimingSetupAns => json!("RxTimingSetupAns"),
        C::TxParamSetupAns => json!("TxParamSetupAns"),
        C::DlChannelAns { channel_freq_ok, uplink_freq_exists } => json!({"DlChannelAns":
            {"uplink_freq_exists": uplink_freq_exists, "channel_freq_ok": channel_freq_ok}}),
        C::RekeyInd { minor } => json!({"RekeyInd": {"dev_lorawan_version": version(minor)}}),
        C::AdrParamSetupAns => json!("ADRParamSetupAns"),
        C::DeviceTimeReq => json!("DeviceTimeReq"),
        C::RejoinParamSetupAns { time_ok } => json!({"RejoinParamSetupAns": {"time_ok": time_ok}}),
        C::PingSlotInfoReq { periodicity } => {
            json!({"PingSlotInfoReq": {"periodicity": periodicity}})
        }
        C::PingSlotChannelAns { channel_freq_ok, data_rate_ok } => json!({"PingSlotChannelAns":
            {"dr_ok": data_rate_ok, "channel_freq_ok": channel_freq_ok}}),
        C::BeaconTimingReq => json!("BeaconTimingReq"),
        C::BeaconFreqAns { beacon_freq_ok } => {
            json!({"BeaconFreqAns": {"beacon_freq_ok": beacon_freq_ok}})
        }
        C::DeviceModeInd { mode } => json!({"DeviceModeInd": {"class": class(mode)}}),
        C::RelayConfAns { .. }
        | C::EndDeviceConfAns { .. }
        | C::FilterListAns { .. }
        | C::UpdateUplinkListAns
        | C::CtrlUplinkListAns { .. }
        | C::ConfigureFwdLimitAns
        | C::NotifyNewEndDeviceReq(_) => uplink_relay(command),
    }
}

fn uplink_relay(command: &UplinkMacCommand) -> Value {
    use UplinkMacCommand as C;
    match *command {
        C::RelayConfAns {
            second_channel_freq_ack,
            second_channel_ack_offset_ack,
            second_channel_dr_ack,
            second_channel_index_ack,
            default_channel_index_ack,
            cad_periodicity_ack,
        } => json!({"RelayConfAns": {
            "second_ch_freq_ack": second_channel_freq_ack,
            "second_ch_ack_offset_ack": second_channel_ack_offset_ack,
            "second_ch_dr_ack": second_channel_dr_ack,
            "second_ch_idx_ack": second_channel_index_ack,
            "default_ch_idx_ack": default_channel_index_ack,
            "cad_periodicity_ack": cad_periodicity_ack,
        }}),
        C::EndDeviceConfAns {
            second_channel_freq_ack,
            second_channel_dr_ack,
            second_channel_index_ack,
            backoff_ack,
        } => json!({"EndDeviceConfAns": {
            "second_ch_freq_ack": second_channel_freq_ack,
            "second_ch_dr_ack": second_channel_dr_ack,
            "second_ch_idx_ack": second_channel_index_ack,
            "backoff_ack": backoff_ack,
        }}),
        C::FilterListAns { action_ack, len_ack, combined_rules_ack } => json!({"FilterListAns": {
            "filter_list_action_ack": action_ack,
            "filter_list_len_ack": len_ack,
            "combined_rules_ack": combined_rules_ack,
        }}),
        C::CtrlUplinkListAns { index_ack, wfcnt } => {
            json!({"CtrlUplinkListAns": {"uplink_list_idx_ack": index_ack, "w_fcnt": wfcnt}})
        }
        C::NotifyNewEndDeviceReq(NewEndDevice { dev_addr, wor_snr_db, wor_rssi_dbm }) => {
            json!({"NotifyNewEndDeviceReq": {"dev_addr": dev_addr.to_string(),
                "power_level": {"wor_snr": wor_snr_db, "wor_rssi": wor_rssi_dbm}}})
        }
        C::ConfigureFwdLimitAns => json!("ConfigureFwdLimitAns"),
        C::UpdateUplinkListAns => json!("UpdateUplinkListAns"),
        // `uplink` has said these itself.
        C::ResetInd { .. }
        | C::LinkCheckReq
        | C::LinkAdrAns { .. }
        | C::DutyCycleAns
        | C::RxParamSetupAns { .. }
        | C::DevStatusAns { .. }
        | C::NewChannelAns { .. }
        | C::RxTimingSetupAns
        | C::TxParamSetupAns
        | C::DlChannelAns { .. }
        | C::RekeyInd { .. }
        | C::AdrParamSetupAns
        | C::DeviceTimeReq
        | C::RejoinParamSetupAns { .. }
        | C::PingSlotInfoReq { .. }
        | C::PingSlotChannelAns { .. }
        | C::BeaconTimingReq
        | C::BeaconFreqAns { .. }
        | C::DeviceModeInd { .. } => Value::Null,
    }
}

/// `{"Name": {fields}}`, or `"Name"` for a command without any. Keys never show.
pub(super) fn downlink(command: &DownlinkMacCommand) -> Value {
    use DownlinkMacCommand as C;
    match *command {
        C::ResetConf { minor } => json!({"ResetConf": {"serv_lorawan_version": version(minor)}}),
        C::LinkCheckAns { margin_db, gateway_count } => {
            json!({"LinkCheckAns": {"margin": margin_db, "gw_cnt": gateway_count}})
        }
        C::LinkAdrReq(request) => link_adr_req(request),
        C::DutyCycleReq { max_duty_cycle } => {
            json!({"DutyCycleReq": {"max_duty_cycle": max_duty_cycle}})
        }
        C::RxParamSetupReq { rx1_dr_offset, rx2_dr, freq_hz } => json!({"RxParamSetupReq":
            {"frequency": freq_hz, "dl_settings":
                {"opt_neg": false, "rx2_dr": rx2_dr, "rx1_dr_offset": rx1_dr_offset}}}),
        C::DevStatusReq => json!("DevStatusReq"),
        C::NewChannelReq { ch_index, freq_hz, min_dr, max_dr } => json!({"NewChannelReq":
            {"ch_index": ch_index, "freq": freq_hz, "min_dr": min_dr, "max_dr": max_dr}}),
        C::RxTimingSetupReq { delay } => json!({"RxTimingSetupReq": {"delay": delay}}),
        C::TxParamSetupReq { downlink_dwell_time, uplink_dwell_time, max_eirp_index } => {
            json!({"TxParamSetupReq": {"uplink_dwell_time": dwell(uplink_dwell_time),
                "downlink_dwell_time": dwell(downlink_dwell_time), "max_eirp": max_eirp_index}})
        }
        C::DlChannelReq { ch_index, freq_hz } => {
            json!({"DlChannelReq": {"ch_index": ch_index, "freq": freq_hz}})
        }
        C::RekeyConf { minor } => json!({"RekeyConf": {"serv_lorawan_version": version(minor)}}),
        C::AdrParamSetupReq { limit_exp, delay_exp } => json!({"ADRParamSetupReq":
            {"adr_param": {"limit_exp": limit_exp, "delay_exp": delay_exp}}}),
        C::DeviceTimeAns { gps_seconds, fraction } => json!({"DeviceTimeAns":
            {"time_since_gps_epoch":
                {"secs": gps_seconds, "nanos": u32::from(fraction) * (1_000_000_000 / 256)}}}),
        C::ForceRejoinReq { period, max_retries, rejoin_type, data_rate } => {
            json!({"ForceRejoinReq": {"period": period, "max_retries": max_retries,
                "rejoin_type": rejoin_type, "dr": data_rate}})
        }
        C::RejoinParamSetupReq { max_time_n, max_count_n } => json!({"RejoinParamSetupReq":
            {"max_time_n": max_time_n, "max_count_n": max_count_n}}),
        C::PingSlotInfoAns => json!("PingSlotInfoAns"),
        C::PingSlotChannelReq { freq_hz, data_rate } => {
            json!({"PingSlotChannelReq": {"freq": freq_hz, "dr": data_rate}})
        }
        C::BeaconTimingAns { delay, channel } => {
            json!({"BeaconTimingAns": {"delay": delay, "channel": channel}})
        }
        C::BeaconFreqReq { freq_hz } => json!({"BeaconFreqReq": {"freq": freq_hz}}),
        C::DeviceModeConf { mode } => json!({"DeviceModeConf": {"class": class(mode)}}),
        C::RelayConfReq(conf) => relay_conf(conf),
        C::EndDeviceConfReq(conf) => end_device_conf(conf),
        C::FilterListReq(ref rule) => filter_rule(rule),
        C::UpdateUplinkListReq(ref entry) => uplink_list_entry(entry),
        C::CtrlUplinkListReq { index, remove } => json!({"CtrlUplinkListReq":
            {"ctrl_uplink_action":
                {"uplink_list_idx": index, "ctrl_uplink_action": u8::from(remove)}}}),
        C::ConfigureFwdLimitReq(limits) => forward_limits(limits),
    }
}

fn version(minor: u8) -> String {
    format!("LoRaWAN1_{minor}")
}

fn class(mode: DeviceMode) -> String {
    match mode {
        DeviceMode::ClassA => "ClassA".into(),
        DeviceMode::ClassC => "ClassC".into(),
        DeviceMode::Reserved(value) => format!("Reserved{value}"),
    }
}

const fn dwell(limited: bool) -> &'static str {
    if limited { "Limit400ms" } else { "NoLimit" }
}

fn link_adr_req(request: LinkAdrReq) -> Value {
    let mask: Vec<bool> = (0..16).map(|bit| request.ch_mask >> bit & 1 == 1).collect();
    json!({"LinkADRReq": {"dr": request.data_rate, "tx_power": request.tx_power, "ch_mask": mask,
        "redundancy": {"ch_mask_cntl": request.ch_mask_cntl, "nb_rep": request.nb_trans}}})
}

fn relay_conf(conf: RelayConf) -> Value {
    let SecondChannel { ack_offset, data_rate, index, freq_hz } = conf.second_channel;
    json!({"RelayConfReq": {"channel_settings_relay": {
        "start_stop": u8::from(conf.enabled), "cad_periodicity": conf.cad_periodicity,
        "default_ch_idx": conf.default_channel_index, "second_ch_idx": index,
        "second_ch_dr": data_rate, "second_ch_ack_offset": ack_offset,
    }, "second_ch_freq": freq_hz}})
}

fn end_device_conf(conf: EndDeviceConf) -> Value {
    let SecondChannel { ack_offset, data_rate, index, freq_hz } = conf.second_channel;
    let activation = match conf.activation {
        RelayActivation::Disabled => "DisableRelayMode",
        RelayActivation::Enabled => "EnableRelayMode",
        RelayActivation::Dynamic => "Dynamic",
        RelayActivation::EndDevice => "EndDeviceControlled",
    };
    json!({"EndDeviceConfReq": {
        "activation_relay_mode": {
            "relay_mode_activation": activation, "smart_enable_level": conf.smart_enable_level,
        },
        "channel_settings_ed": {
            "second_ch_ack_offset": ack_offset, "second_ch_dr": data_rate,
            "second_ch_idx": index, "backoff": conf.backoff,
        },
        "second_ch_freq": freq_hz,
    }})
}

fn filter_rule(rule: &FilterRule) -> Value {
    let action = match rule.action {
        FilterAction::NoRule => "NoRule",
        FilterAction::Forward => "Forward",
        FilterAction::Filter => "Filter",
        FilterAction::Reserved => "Reserved",
    };
    json!({"FilterListReq": {"filter_list_idx": rule.index, "filter_list_action": action,
        "filter_list_eui": rule.eui()}})
}

fn uplink_list_entry(entry: &UplinkListEntry) -> Value {
    json!({"UpdateUplinkListReq": {"uplink_list_idx": entry.index,
        "uplink_limit": {"reload_rate": entry.reload_rate, "bucket_size": entry.bucket_size},
        "dev_addr": entry.dev_addr.to_string(), "w_fcnt": entry.wfcnt}})
}

fn forward_limits(limits: ForwardLimits) -> Value {
    let reset = match limits.reset {
        ResetLimitCounter::ToZero => "TokenCounterToZero",
        ResetLimitCounter::ToReloadRate => "TokenCounterToReloadRate",
        ResetLimitCounter::ToMax => "TokenCounterToMaxValue",
        ResetLimitCounter::Keep => "NoChange",
    };
    json!({"ConfigureFwdLimitReq": {
        "reload_rate": {
            "overall_reload_rate": limits.overall.reload_rate,
            "global_uplink_reload_rate": limits.global_uplink.reload_rate,
            "notify_reload_rate": limits.notify.reload_rate,
            "join_req_reload_rate": limits.join_req.reload_rate,
            "reset_limit_counter": reset,
        },
        "load_capacity": {
            "overall_limit_size": limits.overall.bucket_size,
            "global_uplink_limit_size": limits.global_uplink.bucket_size,
            "notify_limit_size": limits.notify.bucket_size,
            "join_req_limit_size": limits.join_req.bucket_size,
        },
    }})
}
