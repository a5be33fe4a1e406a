//! What a device makes of a frame it has received to its end.
//!
//! Source: LoRaWAN 1.0.4 §4.3.1.5 (counters), §6.2.6 (join-accept).

use bytes::Bytes;
use lorawan::{
    Aes, DataFrame, Direction, EncryptedJoinAccept, Frame, JoinAccept, MAX_FCNT_GAP, MicContext,
    derive_session_1_0, fcnt_candidates,
};

use crate::config::{Activation, DeviceVersion};
use crate::device::Device;
use crate::exchange::{Errand, Reception};
use crate::session::{Session, SessionStart};
use crate::verdict::{AppDownlink, DeviceEffect, Verdict};

impl Device {
    /// Judges a frame and acts on it; returns whether it was this device's.
    pub(crate) fn receive(&mut self, reception: Reception) -> bool {
        let verdict = self.judge(&reception);
        let accepted = matches!(verdict, Verdict::Accepted { .. });
        // The verdict first, then what follows from it.
        self.effects.push_back(DeviceEffect::Judged(verdict));
        if accepted {
            self.take(&reception, verdict);
        }
        accepted
    }

    fn judge(&self, reception: &Reception) -> Verdict {
        let joining = matches!(
            self.exchange.as_ref().map(|exchange| &exchange.errand),
            Some(Errand::Join { .. })
        );
        match Frame::parse(&reception.frame.phy_payload) {
            Err(error) => Verdict::Malformed(error),
            Ok(Frame::JoinAccept(accept)) if joining => match self.open_accept(&accept) {
                Ok(_) => Verdict::Accepted { fcnt: 0 },
                Err(verdict) => verdict,
            },
            Ok(Frame::Data(data)) if !joining && data.direction == Direction::Down => {
                self.judge_data(&data)
            }
            Ok(
                Frame::JoinAccept(_)
                | Frame::Data(_)
                | Frame::JoinRequest(_)
                | Frame::Rejoin(_)
                | Frame::Proprietary(_),
            ) => Verdict::Unexpected,
        }
    }

    fn open_accept(&self, accept: &EncryptedJoinAccept<'_>) -> Result<JoinAccept, Verdict> {
        let Activation::Otaa { app_key } = &self.config.activation else {
            return Err(Verdict::Unexpected);
        };
        let key = Aes::new(app_key);
        let opened = accept.decrypt(&key);
        if !opened.verify_1_0(&key) {
            return Err(Verdict::JoinMic);
        }
        let fields = opened.fields().map_err(|_| Verdict::JoinSettings)?;
        if self.config.version >= DeviceVersion::V1_0_4
            && let Some(last) = self.last_join_nonce.filter(|last| fields.join_nonce <= *last)
        {
            return Err(Verdict::JoinNonce { seen: fields.join_nonce, last });
        }
        let rx2 = self.plan.rx2(self.config.region.rx2_frequency_hz, fields.rx2_dr);
        if rx2.is_none() || !self.plan.knows_offset(fields.rx1_dr_offset) {
            return Err(Verdict::JoinSettings);
        }
        Ok(fields)
    }

    fn judge_data(&self, data: &DataFrame<'_>) -> Verdict {
        let Some(session) = &self.session else { return Verdict::Unexpected };
        if data.dev_addr != session.dev_addr {
            return Verdict::OtherAddress(data.dev_addr);
        }
        let last = session.last_fcnt_down;
        let Ok(candidates) = fcnt_candidates(last, data.fcnt) else { return Verdict::Mic };
        let context = self.mic_context();
        let spoken =
            candidates.into_iter().find(|fcnt| session.ciphers.verify(data, *fcnt, context));
        match (spoken, last) {
            (None, _) => Verdict::Mic,
            (Some(fcnt), Some(last)) if fcnt <= last => Verdict::Replayed { fcnt, last },
            (Some(fcnt), Some(last))
                if self.config.version < DeviceVersion::V1_0_4 && fcnt - last > MAX_FCNT_GAP =>
            {
                Verdict::FCntGap { fcnt, last }
            }
            (Some(fcnt), _) => Verdict::Accepted { fcnt },
        }
    }

    /// What a 1.1 downlink MIC binds: the number of the confirmed uplink that it acknowledges.
    fn mic_context(&self) -> MicContext {
        match self.exchange.as_ref().map(|exchange| &exchange.errand) {
            Some(Errand::Data(message)) => {
                let [low, high, ..] = message.fcnt.to_le_bytes();
                MicContext { conf_fcnt: u16::from_le_bytes([low, high]), ..MicContext::default() }
            }
            Some(Errand::Join { .. }) | None => MicContext::default(),
        }
    }

    fn take(&mut self, reception: &Reception, verdict: Verdict) {
        match (Frame::parse(&reception.frame.phy_payload), verdict) {
            (Ok(Frame::JoinAccept(accept)), _) => {
                if let Ok(fields) = self.open_accept(&accept) {
                    self.activate(&fields);
                }
            }
            (Ok(Frame::Data(data)), Verdict::Accepted { fcnt }) => {
                self.take_data(reception, &data, fcnt);
            }
            _ => {}
        }
    }

    fn activate(&mut self, accept: &JoinAccept) {
        let Some(Errand::Join { dev_nonce }) =
            self.exchange.as_ref().map(|exchange| exchange.errand.clone())
        else {
            return;
        };
        let Activation::Otaa { app_key } = &self.config.activation else { return };
        let keys = derive_session_1_0(app_key, accept.join_nonce, accept.net_id, dev_nonce);
        self.session = Some(Session::new(SessionStart {
            dev_addr: accept.dev_addr,
            keys,
            first_fcnt: self.config.first_fcnt,
            rx1_dr_offset: accept.rx1_dr_offset,
            rx2_dr: accept.rx2_dr,
            rx2_hz: self.config.region.rx2_frequency_hz,
            rx_delay: accept.rx_delay,
            data_rate: self.config.data_rate,
        }));
        self.last_join_nonce = Some(accept.join_nonce);
        if let Some(list) = &accept.cf_list {
            self.plan.apply_cf_list(list);
        }
        self.effects.push_back(DeviceEffect::Joined {
            dev_addr: accept.dev_addr,
            join_nonce: accept.join_nonce,
        });
    }

    fn take_data(&mut self, reception: &Reception, data: &DataFrame<'_>, fcnt: u32) {
        let Some(session) = self.session.as_mut() else { return };
        let opened = session.ciphers.open(data, fcnt);
        session.last_fcnt_down = Some(fcnt);
        session.adr_ack_cnt = 0;
        // The network has heard what was repeated until now.
        session.sticky.clear();
        if data.confirmed {
            session.ack_due = Some(data.fcnt);
        }
        if let Some(exchange) = self.exchange.as_mut()
            && let Errand::Data(message) = &exchange.errand
        {
            exchange.acked |= message.confirmed && data.fctrl.ack;
        }
        self.obey(&opened.f_opts, reception.signal);
        match data.f_port {
            Some(0) => self.obey(&opened.payload, reception.signal),
            Some(f_port) => self.effects.push_back(DeviceEffect::Delivered(AppDownlink {
                fcnt,
                f_port,
                payload: Bytes::from(opened.payload),
                confirmed: data.confirmed,
                f_pending: data.fctrl.f_pending,
            })),
            None => {}
        }
    }
}
