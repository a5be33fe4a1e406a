//! S1, keystream: for each (AES key, direction, DevAddr, FCnt32, field) at most one ciphertext is
//! ever handed to any gateway. Byte-identical copies (RX1, RX2, a second gateway) are allowed.
//!
//! Source: requirements, part G, S1. Two ciphertexts under one keystream give away both plaintexts.
//! The direction is always down: what nodes send.

use std::collections::BTreeMap;

use bytes::Bytes;
use lorawan::DevAddr;

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Field, Seen};

/// Watches S1.
#[derive(Debug, Default)]
pub struct Keystream {
    used: BTreeMap<([u8; 16], DevAddr, u32, Field), Bytes>,
}

impl Invariant for Keystream {
    fn name(&self) -> &'static str {
        "S1"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        let Fact::DownlinkHanded { how, device, dev_addr, f_cnt, ciphertexts, .. } = &seen.fact
        else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for ciphertext in ciphertexts {
            let keystream = (ciphertext.key, *dev_addr, *f_cnt, ciphertext.field);
            let first = self.used.entry(keystream).or_insert_with(|| ciphertext.bytes.clone());
            if *first != ciphertext.bytes {
                let text = format!(
                    "device {device}, DevAddr {dev_addr}, FCnt {f_cnt}: {:?} {:02x?} for gateway \
                     {}, after {:02x?} under the same key",
                    ciphertext.field,
                    &ciphertext.bytes[..],
                    how.gateway,
                    &first[..],
                );
                found.push(violation("S1", seen, text));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{device, judge, transmission};
    use super::*;
    use crate::oracle::Ciphertext;

    fn downlink(key: u8, f_cnt: u32, field: Field, bytes: &'static [u8]) -> Fact {
        Fact::DownlinkHanded {
            how: transmission(),
            device: device(1),
            dev_addr: DevAddr::from_u32(1),
            f_cnt,
            ciphertexts: vec![Ciphertext {
                key: [key; 16],
                field,
                bytes: Bytes::from_static(bytes),
            }],
            payload: None,
            acknowledges: None,
        }
    }

    #[test]
    fn identical_copies_and_other_keys_counters_or_fields_pass() {
        let history = [
            downlink(1, 5, Field::FrmPayload, b"abc"),
            downlink(1, 5, Field::FrmPayload, b"abc"),
            downlink(2, 5, Field::FrmPayload, b"xyz"),
            downlink(1, 6, Field::FrmPayload, b"xyz"),
            downlink(1, 5, Field::FOpts, b"xyz"),
        ];
        assert!(judge(&mut Keystream::default(), history).is_empty());
    }

    #[test]
    fn a_counter_used_for_two_plaintexts_is_caught() {
        let history =
            [downlink(1, 5, Field::FrmPayload, b"abc"), downlink(1, 5, Field::FrmPayload, b"abd")];
        let found = judge(&mut Keystream::default(), history);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("S1 violated at 1.000000s"), "{found:?}");
    }
}
