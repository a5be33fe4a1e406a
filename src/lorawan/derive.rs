//! Session keys from root keys and nonces. Every derivation is one AES block: a tag, what went over
//! the air, and zeros.
//!
//! Source: LoRaWAN 1.0.4 §6.2.6.1, 1.1 §6.1.1.3, §6.1.1.4, §6.2.5.

use zeroize::Zeroize as _;

use crate::crypto::Aes;
use crate::session::SessionKeys;
use crate::{DevEui, DevNonce, JoinEui, JoinNonce, Key, NetId};

/// One derivation: `tag`, then `parts`, padded with zeros to a block.
///
/// The parts never exceed 15 bytes.
fn derive(root: &Aes, tag: u8, parts: &[&[u8]]) -> Key {
    let mut block = [0; 16];
    block[0] = tag;
    let mut rest = &mut block[1..];
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    let mut derived = root.encrypt_block(block);
    let key = Key::from_bytes(derived);
    derived.zeroize();
    key
}

fn nonce_bytes(join_nonce: JoinNonce) -> [u8; 3] {
    let [low, mid, high, _] = join_nonce.0.to_le_bytes();
    [low, mid, high]
}

/// The keys of a 1.0.x session, or of a 1.1 device whose network does not negotiate (OptNeg 0).
///
/// * `app_key`: the AppKey of 1.0.x; for a 1.1 device its NwkKey.
/// * `join_nonce`: 24 bits; more are cut off.
pub fn derive_session_1_0(
    app_key: &Key,
    join_nonce: JoinNonce,
    net_id: NetId,
    dev_nonce: DevNonce,
) -> SessionKeys {
    let root = Aes::new(app_key);
    let nonce = nonce_bytes(join_nonce);
    let net_id = net_id.to_le_bytes();
    let dev_nonce = dev_nonce.0.to_le_bytes();
    let parts: [&[u8]; 3] = [&nonce, &net_id, &dev_nonce];
    SessionKeys::V1_0 {
        nwk_s_key: derive(&root, 0x01, &parts),
        app_s_key: derive(&root, 0x02, &parts),
    }
}

/// The keys of a 1.1 session.
///
/// * `dev_nonce`: of the join-request; RJcount0 or RJcount1 after a rejoin-request.
/// * `join_nonce`: 24 bits; more are cut off.
pub fn derive_session_1_1(
    nwk_key: &Key,
    app_key: &Key,
    join_nonce: JoinNonce,
    join_eui: JoinEui,
    dev_nonce: DevNonce,
) -> SessionKeys {
    let nwk_root = Aes::new(nwk_key);
    let app_root = Aes::new(app_key);
    let nonce = nonce_bytes(join_nonce);
    let join_eui = join_eui.to_le_bytes();
    let dev_nonce = dev_nonce.0.to_le_bytes();
    let parts: [&[u8]; 3] = [&nonce, &join_eui, &dev_nonce];
    SessionKeys::V1_1 {
        f_nwk_s_int_key: derive(&nwk_root, 0x01, &parts),
        s_nwk_s_int_key: derive(&nwk_root, 0x03, &parts),
        nwk_s_enc_key: derive(&nwk_root, 0x04, &parts),
        app_s_key: derive(&app_root, 0x02, &parts),
    }
}

/// JSIntKey: the MIC of rejoin-request 1 and of every 1.1 join-accept.
pub fn derive_js_int_key(nwk_key: &Key, dev_eui: DevEui) -> Key {
    derive(&Aes::new(nwk_key), 0x06, &[&dev_eui.to_le_bytes()])
}

/// JSEncKey: the cipher of a join-accept that answers a rejoin-request.
pub fn derive_js_enc_key(nwk_key: &Key, dev_eui: DevEui) -> Key {
    derive(&Aes::new(nwk_key), 0x05, &[&dev_eui.to_le_bytes()])
}
