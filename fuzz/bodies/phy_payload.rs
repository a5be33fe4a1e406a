//! Arbitrary bytes as a PHYPayload: never a panic; what is read is what was there, and what is
//! written from it is read alike.

use lorawan::{
    Aes, DataFrame, DataMessage, Direction, Frame, JoinReqType, Key, MicContext,
    PHY_PAYLOAD_LEN_MAX, SessionCiphers, SessionKeys,
};

/// Parses, verifies, deciphers, and writes again what was read.
pub fn run(bytes: &[u8]) {
    let key = Key::from_bytes([0x2B; 16]);
    let cipher = Aes::new(&key);
    match Frame::parse(bytes) {
        Err(_) => {}
        Ok(Frame::JoinRequest(request)) => {
            let written = request.fields.encode(&cipher);
            assert_eq!(written[1..19], bytes[1..19], "a join-request is its fields");
            assert_eq!(request.verify(&cipher), written[19..] == bytes[19..] && bytes[0] == 0);
        }
        Ok(Frame::Rejoin(request)) => {
            let written = request.fields.encode(&cipher);
            let signed = bytes.len() - 4;
            assert_eq!(written[1..signed], bytes[1..signed], "a rejoin-request is its fields");
            let _ = request.verify(&cipher);
        }
        Ok(Frame::JoinAccept(sealed)) => {
            let plain = sealed.decrypt(&cipher);
            let _ = plain.verify_1_0(&cipher);
            if let Ok(fields) = plain.fields() {
                let written = fields.encode_1_0(&key);
                assert_eq!(written.len(), bytes.len());
                let Ok(Frame::JoinAccept(again)) = Frame::parse(&written) else {
                    panic!("what was written is no join-accept")
                };
                let again = again.decrypt(&cipher);
                assert!(again.verify_1_0(&cipher));
                assert_eq!(again.fields(), Ok(fields));
            }
            let _ = JoinReqType::from_byte(bytes[1]);
        }
        Ok(Frame::Data(frame)) => data(bytes, &frame, &key),
        Ok(Frame::Proprietary(payload)) => assert_eq!(payload.len() + 1, bytes.len()),
    }
}

fn data(bytes: &[u8], frame: &DataFrame<'_>, key: &Key) {
    assert!(bytes.len() <= PHY_PAYLOAD_LEN_MAX && frame.f_opts.len() <= 15);
    assert_eq!(frame.message().len() + 4, bytes.len());
    assert!(frame.f_port != Some(0) || frame.f_opts.is_empty());
    let old = SessionKeys::V1_0 { nwk_s_key: key.clone(), app_s_key: key.clone() };
    let new = SessionKeys::V1_1 {
        f_nwk_s_int_key: key.clone(),
        s_nwk_s_int_key: key.clone(),
        nwk_s_enc_key: key.clone(),
        app_s_key: key.clone(),
    };
    for keys in [old, new] {
        let session = SessionCiphers::new(&keys);
        let fcnt = 0x5_0000 | u32::from(frame.fcnt);
        let context = MicContext { conf_fcnt: 7, tx_dr: 5, tx_ch: 2 };
        let _ = session.verify(frame, fcnt, context);
        let opened = session.open(frame, fcnt);
        let message = DataMessage {
            direction: frame.direction,
            confirmed: frame.confirmed,
            dev_addr: frame.dev_addr,
            fctrl: frame.fctrl,
            fcnt,
            f_opts: &opened.f_opts,
            f_port: frame.f_port,
            payload: &opened.payload,
        };
        let written = session.seal(&message, context).expect("what was read can be written");
        let Ok(Frame::Data(again)) = Frame::parse(&written) else {
            panic!("what was written is no data frame")
        };
        assert!(session.verify(&again, fcnt, context));
        assert_eq!((again.f_opts, again.frm_payload), (frame.f_opts, frame.frm_payload));
        assert_eq!((again.fctrl, again.f_port), (frame.fctrl, frame.f_port));
        assert_eq!(again.direction == Direction::Up, matches!(bytes[0] >> 5, 2 | 4));
    }
}
