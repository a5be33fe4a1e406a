//! Addresses of a network: the prefix its NetID prescribes, the rest drawn.

use lorawan::{DevAddr, NetId};

/// Prefix length and NwkID length in bits by NetID type. Source: TS2-1.1.0 §13.1, table 3.
const TYPES: [(u32, u32); 8] =
    [(1, 6), (2, 6), (3, 9), (4, 11), (5, 12), (6, 13), (7, 15), (8, 17)];

/// An address of `net_id` with the other bits from `drawn`.
pub(super) fn dev_addr_from(net_id: NetId, drawn: [u8; 4]) -> DevAddr {
    let [high, middle, low] = net_id.to_be_bytes();
    let id = u32::from_be_bytes([0, high, middle, low]);
    let kind = high >> 5;
    let (prefix_bits, nwk_bits) = TYPES[usize::from(kind)];
    // Type n is announced by n ones and a zero.
    let prefix = ((1u32 << prefix_bits) - 2) << (32 - prefix_bits);
    let nwk_id = id & ((1 << nwk_bits) - 1);
    let addr_bits = 32 - prefix_bits - nwk_bits;
    let drawn = u32::from_be_bytes(drawn) & ((1 << addr_bits) - 1);
    DevAddr::from_be_bytes((prefix | nwk_id << addr_bits | drawn).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_prefix_and_keeps_the_nwk_id() {
        for (net_id, drawn, expected) in [
            ([0x00, 0x00, 0x00], [0xFF; 4], "01ffffff"),
            ([0x00, 0x00, 0x13], [0x00; 4], "26000000"),
            ([0x00, 0x00, 0x13], [0xFF; 4], "27ffffff"),
            ([0x20, 0x00, 0x01], [0x00; 4], "81000000"),
            ([0x60, 0x00, 0x01], [0x00; 4], "e0020000"),
            ([0xC0, 0x00, 0x01], [0xFF; 4], "fc0007ff"),
            ([0xE0, 0x00, 0x01], [0xFF; 4], "fe0000ff"),
        ] {
            let drawn = dev_addr_from(NetId::from_be_bytes(net_id), drawn);
            assert_eq!(drawn.to_string(), expected, "{net_id:?}");
        }
    }
}
