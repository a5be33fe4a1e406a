//! Which addresses are this network's own. Source: TS2-1.1.0 §5.3 (NetID types, NwkID widths).

use lorawan::{DevAddr, NetId};

/// The leading bits of a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevAddrPrefix {
    bits: u32,
    len: u32,
}

/// NwkID bits by NetID type.
const NWK_ID_BITS: [u32; 8] = [6, 6, 9, 11, 12, 13, 15, 17];

impl DevAddrPrefix {
    /// The addresses that begin as `dev_addr` does for `len` bits, 0..=32; more count as 32.
    #[must_use]
    pub fn new(dev_addr: DevAddr, len: u32) -> Self {
        let len = len.min(32);
        Self { bits: dev_addr.to_u32() & mask(len), len }
    }

    /// The addresses that belong to a NetID.
    #[must_use]
    pub fn of(net_id: NetId) -> Self {
        let [a, b, c] = net_id.to_be_bytes();
        let value = u32::from_be_bytes([0, a, b, c]);
        let kind = value >> 21;
        // Type n: n ones and a zero, then the low bits of the NetID.
        let width = NWK_ID_BITS.get(kind as usize).copied().unwrap_or(0);
        let ones = (1_u32 << kind) - 1;
        let nwk_id = value & ((1 << width) - 1);
        let len = kind + 1 + width;
        Self { bits: (ones << 1 << width | nwk_id) << (32 - len), len }
    }

    /// Whether the address lies in the range.
    #[must_use]
    pub fn contains(&self, dev_addr: DevAddr) -> bool {
        dev_addr.to_u32() & mask(self.len) == self.bits
    }

    /// The address of the range whose other bits are those of `random`.
    #[must_use]
    pub fn fill(&self, random: u32) -> DevAddr {
        DevAddr::from_u32(self.bits | random & !mask(self.len))
    }
}

fn mask(len: u32) -> u32 {
    u32::MAX.checked_shl(32 - len).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_net_id_type_has_its_prefix() {
        // NetID, lowest and highest address: the boundaries of TS2-1.1.0 table 5.
        let table = [
            ([0x00, 0x00, 0x00], 0x0000_0000, 0x01FF_FFFF),
            ([0x00, 0x00, 0x13], 0x2600_0000, 0x27FF_FFFF),
            ([0x20, 0x00, 0x3F], 0xBF00_0000, 0xBFFF_FFFF),
            ([0x40, 0x01, 0xFF], 0xDFF0_0000, 0xDFFF_FFFF),
            ([0x60, 0x00, 0x00], 0xE000_0000, 0xE001_FFFF),
            ([0x80, 0x00, 0x01], 0xF000_8000, 0xF000_FFFF),
            ([0xA0, 0x00, 0x00], 0xF800_0000, 0xF800_1FFF),
            ([0xC0, 0x00, 0x53], 0xFC01_4C00, 0xFC01_4FFF),
            ([0xE0, 0x00, 0x00], 0xFE00_0000, 0xFE00_007F),
        ];
        for (net_id, low, high) in table {
            let prefix = DevAddrPrefix::of(NetId::from_be_bytes(net_id));
            assert_eq!(prefix.fill(0), DevAddr::from_u32(low), "{net_id:02x?}");
            assert_eq!(prefix.fill(u32::MAX), DevAddr::from_u32(high), "{net_id:02x?}");
            assert!(prefix.contains(DevAddr::from_u32(low)));
            assert!(!prefix.contains(DevAddr::from_u32(high ^ 0x8000_0000)));
        }
    }

    #[test]
    fn a_prefix_may_have_any_length() {
        let some = DevAddr::from_u32(0x1234_5678);
        assert!(DevAddrPrefix::new(some, 0).contains(DevAddr::from_u32(u32::MAX)));
        assert_eq!(DevAddrPrefix::new(some, 99).fill(0), some);
        assert_eq!(DevAddrPrefix::new(some, 8).fill(0xFFFF_FFFF), DevAddr::from_u32(0x12FF_FFFF));
    }
}
