//! What the adversary has overheard: datagrams of gateways, and what anybody can read in them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gateway::semtech::{Rxpk, Upward, parse_upward};
use lorawan::{DevAddr, Frame, GatewayEui, JoinRequest};

use super::super::record::Record;

/// Frames that it keeps.
const FRAMES_MAX: usize = 512;
/// Join-requests that it keeps beside them.
const JOINS_MAX: usize = 64;
/// Addresses, and devices, that it remembers.
const NAMES_MAX: usize = 256;

/// One frame that a gateway has forwarded.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// Which gateway.
    pub(super) gateway: GatewayEui,
    /// The whole datagram it was in.
    pub(super) datagram: Bytes,
    /// The frame, and how it was heard.
    pub(super) rxpk: Rxpk,
}

/// All it has.
#[derive(Debug, Default)]
pub(super) struct Loot {
    /// Frames, oldest first.
    pub(super) frames: VecDeque<Heard>,
    /// Join-requests, oldest first.
    pub(super) joins: VecDeque<Heard>,
    /// The last counter seen of each address, 16 bits of it.
    pub(super) counters: BTreeMap<DevAddr, u16>,
    /// Who asked whom to join.
    pub(super) devices: Vec<JoinRequest>,
}

impl Loot {
    /// Takes a datagram; whatever is none of a gateway's frames is of no use.
    pub(super) fn take(&mut self, datagram: &[u8], record: &Record) {
        let Ok(Upward::PushData(head, push)) = parse_upward(datagram) else { return };
        let datagram = Bytes::copy_from_slice(datagram);
        for rxpk in push.rxpks {
            record.overheard(head.gateway, rxpk.tmst, &rxpk.phy_payload);
            let heard = Heard { gateway: head.gateway, datagram: datagram.clone(), rxpk };
            self.read(&heard);
            keep(&mut self.frames, heard, FRAMES_MAX);
        }
    }

    fn read(&mut self, heard: &Heard) {
        match Frame::parse(&heard.rxpk.phy_payload) {
            Ok(Frame::Data(data)) => {
                if self.counters.len() >= NAMES_MAX && !self.counters.contains_key(&data.dev_addr) {
                    self.counters.pop_first();
                }
                self.counters.insert(data.dev_addr, data.fcnt);
            }
            Ok(Frame::JoinRequest(signed)) => {
                let asked = signed.fields;
                let known = |other: &JoinRequest| other.dev_eui == asked.dev_eui;
                if self.devices.len() < NAMES_MAX && !self.devices.iter().any(known) {
                    self.devices.push(asked);
                }
                keep(&mut self.joins, heard.clone(), JOINS_MAX);
            }
            Ok(Frame::JoinAccept(_) | Frame::Rejoin(_) | Frame::Proprietary(_)) | Err(_) => {}
        }
    }
}

fn keep(ring: &mut VecDeque<Heard>, heard: Heard, limit: usize) {
    if ring.len() >= limit {
        ring.pop_front();
    }
    ring.push_back(heard);
}
