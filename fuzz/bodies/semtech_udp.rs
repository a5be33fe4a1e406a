//! Arbitrary datagrams of the packet forwarders' protocol: as a server reads them, as a forwarder
//! reads them, and as a whole conversation with the server's machine.
//!
//! The first byte chooses which. What is read must be written and read alike, and every downlink
//! must have exactly one outcome.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clock::{Duration, Instant};
use gateway::semtech::{
    DATAGRAM_LEN_MAX, Downward, GatewaySettings, Output, PHY_PAYLOAD_LEN_MAX, PushData, RXPK_MAX,
    Server, UNREGISTERED_MAX, Upward, Version, parse_downward, parse_upward,
};
use lorawan::{
    CodeRate, CrcStatus, Downlink, DownlinkTiming, GatewayEui, Modulation, TxAck, Uplink,
};

/// One input.
pub fn run(data: &[u8]) {
    match data {
        [0, datagram @ ..] => upward(datagram),
        [1, datagram @ ..] => downward(datagram),
        [2, script @ ..] => converse(script),
        _ => {}
    }
}

fn upward(datagram: &[u8]) {
    match parse_upward(datagram) {
        Err(error) => assert!(!error.reason().is_empty() && error.to_string().len() < 1_000),
        Ok(Upward::PullData(_)) => assert_eq!(datagram.len(), 12),
        Ok(Upward::TxAck(head, reply)) => {
            assert_eq!(parse_upward(&reply.encode(head)), Ok(Upward::TxAck(head, reply)));
        }
        Ok(Upward::PushData(head, push)) => {
            assert!(push.rxpks.len() + push.refused.len() <= RXPK_MAX + 1);
            for rxpk in &push.rxpks {
                assert!((1..=PHY_PAYLOAD_LEN_MAX).contains(&rxpk.phy_payload.len()));
                assert_ne!(rxpk.crc, CrcStatus::Bad);
            }
            if push.rxpks.is_empty() {
                return;
            }
            // Figures of `stat` are rounded when written, so only the frames must come back.
            let written = PushData { rxpks: push.rxpks, ..PushData::default() };
            assert_eq!(parse_upward(&written.encode(head)), Ok(Upward::PushData(head, written)));
            let stat = PushData { stat: push.stat, ..PushData::default() };
            if stat.stat.is_some() {
                let Ok(Upward::PushData(_, again)) = parse_upward(&stat.encode(head)) else {
                    panic!("what was written is no PUSH_DATA")
                };
                assert!(again.stat.is_some() && again.stat_refused.is_none());
            }
        }
    }
}

fn downward(datagram: &[u8]) {
    let Ok(Downward::PullResp { token, txpk }) = parse_downward(datagram) else { return };
    let again = parse_downward(&txpk.encode(Version::V2, token));
    assert_eq!(again, Ok(Downward::PullResp { token, txpk }));
}

/// A conversation: each step is a type, a gateway, a token, a length, and that many bytes of body.
/// Types beyond the protocol's send a downlink, let time pass or send the body as it is.
fn converse(mut script: &[u8]) {
    let mut talk = Talk {
        server: Server::new(0xFFF0),
        now: Instant::from_secs(1),
        in_flight: BTreeSet::new(),
        next_id: 0,
    };
    while let Some(([kind, number, token, len], rest)) = script.split_first_chunk() {
        let (body, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        script = rest;
        match kind {
            0 | 2 | 5 => {
                let mut datagram = vec![2, 0xFF, *token, *kind, 0, 0, 0, 0, 0, 0, 0, *number];
                datagram.extend_from_slice(body);
                talk.hear(&datagram);
            }
            6 => talk.send(*number, *token),
            7 => talk.wait(u64::from(*number) * 10),
            _ => talk.hear(body),
        }
    }
    talk.wait(10_000);
    assert!(talk.in_flight.is_empty(), "every downlink has an outcome");
    assert_eq!((talk.server.in_flight(), talk.server.poll_timeout()), (0, None));
}

struct Talk {
    server: Server,
    now: Instant,
    in_flight: BTreeSet<u32>,
    next_id: u32,
}

impl Talk {
    fn hear(&mut self, datagram: &[u8]) {
        assert!(datagram.len() <= DATAGRAM_LEN_MAX);
        let from = SocketAddr::from(([192, 0, 2, 1], 1_700));
        // Gateways with an odd number are registered.
        let registered = |gateway: GatewayEui| gateway.to_be_bytes()[7] % 2 == 1;
        self.server.handle_datagram(self.now, from, datagram, registered);
        self.drain();
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.server.handle_timeout(self.now);
        self.drain();
    }

    fn send(&mut self, number: u8, eirp: u8) {
        self.next_id += 1;
        let downlink = Downlink {
            downlink_id: self.next_id,
            gateway: GatewayEui::from_be_bytes([0, 0, 0, 0, 0, 0, 0, number]),
            phy_payload: vec![0x60; 12].into(),
            timing: DownlinkTiming::Delay { tmst: u32::MAX, delay: Duration::from_secs(1) },
            frequency_hz: 868_100_000,
            modulation: Modulation::Lora {
                spreading_factor: 7,
                bandwidth_hz: 125_000,
                code_rate: CodeRate::Cr45,
            },
            eirp_dbm: i8::try_from(eirp % 64).unwrap_or(0),
            rf_chain: 0,
            antenna: 0,
            dev_addr: None,
        };
        if let Ok((_, bytes)) = self.server.send(self.now, &downlink, GatewaySettings::default()) {
            self.in_flight.insert(self.next_id);
            downward(&bytes);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::TxAck(TxAck { downlink_id, .. }) | Output::TxSilent { downlink_id, .. } => {
                    assert!(self.in_flight.remove(&downlink_id), "one outcome each");
                }
                Output::Uplink(Uplink { gateway, .. }) | Output::Stat { gateway, .. } => {
                    assert!(gateway.to_be_bytes()[7] % 2 == 1, "only of registered gateways");
                }
                Output::Send { .. }
                | Output::Pulled { .. }
                | Output::StrayTxAck { .. }
                | Output::PathChanged { .. }
                | Output::UnregisteredGateway { .. }
                | Output::Refused { .. } => {}
            }
        }
        assert!(self.server.unregistered().count() <= UNREGISTERED_MAX);
    }
}
