//! Identities that are computed, not drawn, so that two proposers arrive at the same one.

use clock::WallTime;
use lorawan::{DevEui, DevNonce, JoinEui, MType};
use sha2::{Digest as _, Sha256};

use crate::{Digest, SessionEpoch};

impl Digest {
    /// The digest of a data frame: MType, FPort and FRMPayload as it travels. FOpts stand outside:
    /// a device may repeat a frame with other MAC answers.
    #[must_use]
    pub fn of(mtype: MType, f_port: Option<u8>, ciphertext: &[u8]) -> Self {
        let port = f_port.map_or([0, 0], |port| [1, port]);
        let hash = Sha256::new()
            .chain_update([mtype.to_mhdr()])
            .chain_update(port)
            .chain_update(ciphertext)
            .finalize();
        Self(first_16(&hash))
    }
}

/// What kind of happening an event reports, for its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// `up`
    Up,
    /// `join`
    Join,
    /// `status`
    Status,
    /// `ack`
    Ack,
    /// `txack`
    TxAck,
    /// `log`
    Log,
}

/// What makes one event different from every other of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// It follows from a data frame.
    Uplink {
        /// In which session, after a counter reset the new one.
        session_epoch: SessionEpoch,
        /// Its counter.
        f_cnt: u32,
        /// Its digest.
        digest: Digest,
    },
    /// It follows from a join-request.
    Join {
        /// The join server named.
        join_eui: JoinEui,
        /// The nonce.
        dev_nonce: DevNonce,
    },
    /// It follows from one downlink.
    Downlink {
        /// In which session.
        session_epoch: SessionEpoch,
        /// Its number.
        f_cnt_down: u32,
        /// Which transmission.
        downlink_id: u32,
    },
    /// It concerns one queue item.
    QueueItem([u8; 16]),
    /// It concerns the device at a time: `ordinal` tells events of one entry apart.
    Moment {
        /// The state's time.
        at: WallTime,
        /// Running number.
        ordinal: u32,
    },
}

/// `deduplicationId`: a UUID of version 8 (RFC 9562 §5.8) out of SHA-256 over cluster, device, kind
/// and source. Big-endian, as UUIDs are written.
#[must_use]
pub fn event_id(
    cluster_id: [u8; 16],
    dev_eui: DevEui,
    kind: EventKind,
    source: &EventSource,
) -> [u8; 16] {
    let mut hash = Sha256::new()
        .chain_update(b"tern event 1")
        .chain_update(cluster_id)
        .chain_update(dev_eui.to_be_bytes())
        .chain_update([kind as u8]);
    match source {
        EventSource::Uplink { session_epoch, f_cnt, digest } => {
            hash.update([0]);
            hash.update(session_epoch.0.to_be_bytes());
            hash.update(f_cnt.to_be_bytes());
            hash.update(digest.0);
        }
        EventSource::Join { join_eui, dev_nonce } => {
            hash.update([1]);
            hash.update(join_eui.to_be_bytes());
            hash.update(dev_nonce.0.to_be_bytes());
        }
        EventSource::Downlink { session_epoch, f_cnt_down, downlink_id } => {
            hash.update([2]);
            hash.update(session_epoch.0.to_be_bytes());
            hash.update(f_cnt_down.to_be_bytes());
            hash.update(downlink_id.to_be_bytes());
        }
        EventSource::QueueItem(id) => {
            hash.update([3]);
            hash.update(id);
        }
        EventSource::Moment { at, ordinal } => {
            hash.update([4]);
            hash.update(at.unix_micros().to_be_bytes());
            hash.update(ordinal.to_be_bytes());
        }
    }
    let mut id = first_16(&hash.finalize());
    id[6] = id[6] & 0x0F | 0x80;
    id[8] = id[8] & 0x3F | 0x80;
    id
}

fn first_16(hash: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: [u8; 16] = [7; 16];

    fn up(epoch: u32, f_cnt: u32, digest: u8) -> [u8; 16] {
        let dev_eui = DevEui::from_be_bytes([2; 8]);
        let source = EventSource::Uplink {
            session_epoch: SessionEpoch(epoch),
            f_cnt,
            digest: Digest([digest; 16]),
        };
        event_id(CLUSTER, dev_eui, EventKind::Up, &source)
    }

    #[test]
    fn an_id_is_a_version_8_uuid_and_depends_on_everything() {
        let id = up(1, 10, 5);
        assert_eq!(id[6] >> 4, 8, "version");
        assert_eq!(id[8] >> 6, 0b10, "variant");
        assert_eq!(up(1, 10, 5), id);
        assert!([up(2, 10, 5), up(1, 11, 5), up(1, 10, 6)].iter().all(|other| *other != id));
        let join = EventSource::Join { join_eui: JoinEui::default(), dev_nonce: DevNonce(1) };
        let device = DevEui::from_be_bytes([2; 8]);
        let joined = event_id(CLUSTER, device, EventKind::Join, &join);
        assert_ne!(joined, event_id([8; 16], device, EventKind::Join, &join));
        assert_ne!(joined, event_id(CLUSTER, device.reversed(), EventKind::Log, &join));
    }

    #[test]
    fn a_digest_tells_no_port_from_port_zero_and_from_other_types() {
        let up = MType::UnconfirmedDataUp;
        let none = Digest::of(up, None, &[]);
        assert_ne!(none, Digest::of(up, Some(0), &[]));
        assert_ne!(none, Digest::of(MType::ConfirmedDataUp, None, &[]));
        assert_ne!(Digest::of(up, Some(1), &[2]), Digest::of(up, Some(1), &[3]));
        assert_eq!(Digest::of(up, Some(1), &[2]), Digest::of(up, Some(1), &[2]));
    }
}
