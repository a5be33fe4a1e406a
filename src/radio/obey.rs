//! How a device obeys MAC commands. Source: LoRaWAN 1.0.4 §5.

use clock::GpsTime;
use lorawan::{DownlinkMacCommand, LINK_ADR_KEEP, LinkAdrReq, MacCommand as _, UplinkMacCommand};

use crate::air::Signal;
use crate::config::DeviceVersion;
use crate::device::Device;
use crate::verdict::DeviceEffect;

impl Device {
    /// Obeys a block of commands in order; what follows an unknown one is lost.
    pub(crate) fn obey(&mut self, block: &[u8], signal: Signal) {
        let mut adr_block = Vec::new();
        for command in DownlinkMacCommand::walk(block).map_while(Result::ok) {
            // Neighbouring LinkADRReq are one: all of it or nothing (from 1.0.2).
            if let DownlinkMacCommand::LinkAdrReq(request) = command {
                adr_block.push(request);
                continue;
            }
            self.obey_link_adr(&core::mem::take(&mut adr_block));
            self.obey_one(command, signal);
        }
        self.obey_link_adr(&adr_block);
    }

    fn obey_one(&mut self, command: DownlinkMacCommand, signal: Signal) {
        match command {
            DownlinkMacCommand::LinkCheckAns { margin_db, gateway_count } => {
                self.effects.push_back(DeviceEffect::LinkCheck { margin_db, gateway_count });
            }
            DownlinkMacCommand::DeviceTimeAns { gps_seconds, fraction } => {
                self.take_time(gps_seconds, fraction);
            }
            DownlinkMacCommand::DutyCycleReq { max_duty_cycle } => {
                if let Some(session) = self.session.as_mut() {
                    session.max_duty_cycle = max_duty_cycle;
                }
                self.answer(UplinkMacCommand::DutyCycleAns);
            }
            DownlinkMacCommand::RxParamSetupReq { rx1_dr_offset, rx2_dr, freq_hz } => {
                self.obey_rx_param(rx1_dr_offset, rx2_dr, freq_hz);
            }
            DownlinkMacCommand::DevStatusReq => {
                let margin = (signal.snr_ddb / 10).clamp(-32, 31);
                let margin_db = i8::try_from(margin).unwrap_or(0);
                let battery = self.config.battery;
                self.answer(UplinkMacCommand::DevStatusAns { battery, margin_db });
            }
            DownlinkMacCommand::NewChannelReq { ch_index, freq_hz, min_dr, max_dr } => {
                // A fixed plan has no such command: no answer.
                if !self.config.region.is_fixed_plan() {
                    let (channel_freq_ok, dr_range_ok) =
                        self.plan.new_channel(ch_index, freq_hz, min_dr, max_dr);
                    self.answer(UplinkMacCommand::NewChannelAns { channel_freq_ok, dr_range_ok });
                }
            }
            DownlinkMacCommand::RxTimingSetupReq { delay } => {
                if let Some(session) = self.session.as_mut() {
                    session.rx_delay = delay.max(1);
                }
                self.answer_until_heard(UplinkMacCommand::RxTimingSetupAns);
            }
            DownlinkMacCommand::DlChannelReq { ch_index, freq_hz } => {
                if !self.config.region.is_fixed_plan() {
                    let (channel_freq_ok, uplink_freq_exists) =
                        self.plan.dl_channel(ch_index, freq_hz);
                    self.answer_until_heard(UplinkMacCommand::DlChannelAns {
                        channel_freq_ok,
                        uplink_freq_exists,
                    });
                }
            }
            // Obeyed as a block; or of 1.1, class B, relays and regions that come later.
            DownlinkMacCommand::LinkAdrReq(_)
            | DownlinkMacCommand::TxParamSetupReq { .. }
            | DownlinkMacCommand::ResetConf { .. }
            | DownlinkMacCommand::RekeyConf { .. }
            | DownlinkMacCommand::AdrParamSetupReq { .. }
            | DownlinkMacCommand::ForceRejoinReq { .. }
            | DownlinkMacCommand::RejoinParamSetupReq { .. }
            | DownlinkMacCommand::PingSlotInfoAns
            | DownlinkMacCommand::PingSlotChannelReq { .. }
            | DownlinkMacCommand::BeaconTimingAns { .. }
            | DownlinkMacCommand::BeaconFreqReq { .. }
            | DownlinkMacCommand::DeviceModeConf { .. }
            | DownlinkMacCommand::RelayConfReq(_)
            | DownlinkMacCommand::EndDeviceConfReq(_)
            | DownlinkMacCommand::FilterListReq(_)
            | DownlinkMacCommand::UpdateUplinkListReq(_)
            | DownlinkMacCommand::CtrlUplinkListReq { .. }
            | DownlinkMacCommand::ConfigureFwdLimitReq(_) => {}
        }
    }

    fn answer(&mut self, answer: UplinkMacCommand) {
        self.session.iter_mut().for_each(|session| session.answers.push(answer));
    }

    fn answer_until_heard(&mut self, answer: UplinkMacCommand) {
        self.session.iter_mut().for_each(|session| session.sticky.push(answer));
    }

    fn take_time(&mut self, gps_seconds: u32, fraction: u8) {
        let micros = u64::from(gps_seconds) * 1_000_000 + u64::from(fraction) * 1_000_000 / 256;
        if let Some(exchange) = &self.exchange {
            self.effects.push_back(DeviceEffect::Time {
                gps: GpsTime::from_micros(micros),
                uplink_ended_at: exchange.sent_at,
            });
        }
    }

    fn obey_rx_param(&mut self, rx1_dr_offset: u8, rx2_dr: u8, freq_hz: u32) {
        let channel_ack = self.plan.knows_frequency(freq_hz);
        let rx2_dr_ack = self.plan.rx2(freq_hz, rx2_dr).is_some();
        let rx1_dr_offset_ack = self.plan.knows_offset(rx1_dr_offset);
        if let Some(session) = self.session.as_mut()
            && channel_ack
            && rx2_dr_ack
            && rx1_dr_offset_ack
        {
            session.rx1_dr_offset = rx1_dr_offset;
            session.rx2_dr = rx2_dr;
            session.rx2_hz = freq_hz;
        }
        self.answer_until_heard(UplinkMacCommand::RxParamSetupAns {
            channel_ack,
            rx2_dr_ack,
            rx1_dr_offset_ack,
        });
    }

    /// A contiguous block of LinkADRReq: masks add up, the last one's rate, power and NbTrans
    /// count, and every request gets the same answer (1.0.2 to 1.0.4).
    fn obey_link_adr(&mut self, block: &[LinkAdrReq]) {
        let (Some(last), Some(session)) = (block.last(), self.session.as_mut()) else { return };
        let mask = block.iter().try_fold(self.plan.mask(), |mask, request| {
            self.plan.masked(mask, request.ch_mask_cntl, request.ch_mask)
        });
        let mask = mask.filter(|mask| mask.contains(&true));
        let keeps = self.config.version >= DeviceVersion::V1_0_4;
        let kept = |value: u8, now: u8| if keeps && value == LINK_ADR_KEEP { now } else { value };
        let data_rate = kept(last.data_rate, session.data_rate);
        let tx_power = kept(last.tx_power, session.tx_power);
        let on = mask.clone().unwrap_or_else(|| self.plan.mask());
        let ch_mask_ack = mask.is_some();
        let data_rate_ack = self.plan.carries(&on, data_rate);
        let tx_power_ack = self.config.region.uplink_eirp_dbm(tx_power).is_some();
        if let Some(mask) = mask.filter(|_| data_rate_ack && tx_power_ack) {
            self.plan.switch(&mask);
            session.data_rate = data_rate;
            session.tx_power = tx_power;
            session.nb_trans = if last.nb_trans == 0 { session.nb_trans } else { last.nb_trans };
        }
        let answer = UplinkMacCommand::LinkAdrAns { ch_mask_ack, data_rate_ack, tx_power_ack };
        session.answers.extend(block.iter().map(|_| answer));
    }
}
