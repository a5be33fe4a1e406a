//! What is written is read back, for every frame and both versions; what was changed on the way is
//! not believed.

use proptest::prelude::*;

use crate::*;

fn key() -> impl Strategy<Value = Key> {
    any::<[u8; 16]>().prop_map(Key::from_bytes)
}

fn fctrl() -> impl Strategy<Value = FCtrl> {
    any::<[bool; 5]>().prop_map(|[adr, adr_ack_req, ack, class_b, f_pending]| FCtrl {
        adr,
        adr_ack_req,
        ack,
        class_b,
        f_pending,
    })
}

/// FOpts, port and payload that may stand together: at most 242 bytes in all.
fn content() -> impl Strategy<Value = (Vec<u8>, Option<u8>, Vec<u8>)> {
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..=max);
    prop_oneof![
        (bytes(15), 1..=255_u8, bytes(227)).prop_map(|(o, port, p)| (o, Some(port), p)),
        bytes(242).prop_map(|payload| (vec![], Some(0), payload)),
        bytes(15).prop_map(|f_opts| (f_opts, None, vec![])),
    ]
}

fn session() -> impl Strategy<Value = SessionKeys> {
    (any::<bool>(), key(), key(), key(), key()).prop_map(|(new, a, b, c, d)| {
        if new {
            SessionKeys::V1_1 {
                f_nwk_s_int_key: a,
                s_nwk_s_int_key: b,
                nwk_s_enc_key: c,
                app_s_key: d,
            }
        } else {
            SessionKeys::V1_0 { nwk_s_key: a, app_s_key: d }
        }
    })
}

fn cf_list() -> impl Strategy<Value = CfList> {
    prop_oneof![
        any::<[u16; CF_LIST_MASKS]>().prop_map(CfList::ChannelMasks),
        proptest::array::uniform5(0..12_000_000_u32)
            .prop_map(|units| CfList::Frequencies(units.map(|unit| unit * 100))),
    ]
}

fn join_accept() -> impl Strategy<Value = JoinAccept> {
    let settings = (any::<bool>(), 0..=7_u8, 0..=15_u8, 0..=15_u8);
    (0..1_u32 << 24, any::<[u8; 3]>(), any::<u32>(), settings, proptest::option::of(cf_list()))
        .prop_map(|(nonce, net_id, dev_addr, settings, cf_list)| JoinAccept {
            join_nonce: JoinNonce(nonce),
            net_id: NetId::from_be_bytes(net_id),
            dev_addr: DevAddr::from_u32(dev_addr),
            opt_neg: settings.0,
            rx1_dr_offset: settings.1,
            rx2_dr: settings.2,
            rx_delay: settings.3,
            cf_list,
        })
}

proptest! {
    #[test]
    fn data_frames(
        keys in session(),
        up in any::<bool>(),
        confirmed in any::<bool>(),
        dev_addr in any::<u32>(),
        fctrl in fctrl(),
        fcnt in any::<u32>(),
        context in any::<(u16, u8, u8)>(),
        (f_opts, f_port, payload) in content(),
        flip in any::<(proptest::sample::Index, u8)>(),
    ) {
        let direction = if up { Direction::Up } else { Direction::Down };
        let context = MicContext { conf_fcnt: context.0, tx_dr: context.1, tx_ch: context.2 };
        let message = DataMessage {
            direction,
            confirmed,
            dev_addr: DevAddr::from_u32(dev_addr),
            fctrl,
            fcnt,
            f_opts: &f_opts,
            f_port,
            payload: &payload,
        };
        let ciphers = SessionCiphers::new(&keys);
        let mut bytes = ciphers.seal(&message, context).unwrap();
        {
            let Ok(Frame::Data(frame)) = Frame::parse(&bytes) else { panic!("not data") };
            prop_assert_eq!(frame.direction, direction);
            prop_assert_eq!(frame.confirmed, confirmed);
            prop_assert_eq!(frame.dev_addr.to_u32(), dev_addr);
            prop_assert_eq!(u32::from(frame.fcnt), fcnt & 0xFFFF);
            prop_assert_eq!(frame.f_port, f_port);
            prop_assert_eq!((frame.fctrl.adr, frame.fctrl.ack), (fctrl.adr, fctrl.ack));
            prop_assert_eq!(frame.fctrl.adr_ack_req, up && fctrl.adr_ack_req);
            prop_assert_eq!(frame.fctrl.class_b, up && fctrl.class_b);
            prop_assert_eq!(frame.fctrl.f_pending, !up && fctrl.f_pending);
            prop_assert!(ciphers.verify(&frame, fcnt, context));
            prop_assert!(!ciphers.verify(&frame, fcnt ^ 0x1_0000, context));
            prop_assert_eq!(ciphers.open(&frame, fcnt), OpenedData { f_opts, payload });
        }
        let at = flip.0.index(bytes.len());
        bytes[at] ^= flip.1 | 1;
        if let Ok(Frame::Data(frame)) = Frame::parse(&bytes) {
            prop_assert!(!ciphers.verify(&frame, fcnt, context), "byte {} was changed", at);
        }
    }

    #[test]
    fn join_accepts(
        accept in join_accept(),
        root in key(),
        js_int in key(),
        kind in 0..4_usize,
        join_eui in any::<[u8; 8]>(),
        dev_nonce in any::<u16>(),
    ) {
        use JoinReqType::{Join, Rejoin0, Rejoin1, Rejoin2};
        let context = JoinContext {
            join_req_type: [Join, Rejoin0, Rejoin1, Rejoin2][kind],
            join_eui: JoinEui::from_be_bytes(join_eui),
            dev_nonce: DevNonce(dev_nonce),
        };
        let (root_cipher, js_int_cipher) = (Aes::new(&root), Aes::new(&js_int));
        for new in [false, true] {
            let bytes = if new {
                accept.encode_1_1(&js_int, &root, &context)
            } else {
                accept.encode_1_0(&root)
            };
            let Ok(Frame::JoinAccept(sealed)) = Frame::parse(&bytes) else { panic!("not one") };
            let plain = sealed.decrypt(&root_cipher);
            prop_assert_eq!(plain.fields(), Ok(accept));
            prop_assert_eq!(plain.verify_1_0(&root_cipher), !new);
            prop_assert_eq!(plain.verify_1_1(&js_int_cipher, &context), new);
        }
    }

    #[test]
    fn requests(
        key in key(),
        other in key(),
        eui in any::<([u8; 8], [u8; 8])>(),
        net_id in any::<[u8; 3]>(),
        count in any::<u16>(),
    ) {
        let (join_eui, dev_eui) = (JoinEui::from_be_bytes(eui.0), DevEui::from_be_bytes(eui.1));
        let net_id = NetId::from_be_bytes(net_id);
        let (right, wrong) = (Aes::new(&key), Aes::new(&other));
        let request = JoinRequest { join_eui, dev_eui, dev_nonce: DevNonce(count) };
        let bytes = request.encode(&right);
        let Ok(Frame::JoinRequest(signed)) = Frame::parse(&bytes) else { panic!("not one") };
        prop_assert_eq!(signed.fields, request);
        prop_assert!(signed.verify(&right));
        prop_assert!(key == other || !signed.verify(&wrong));
        for request in [
            RejoinRequest::Type0 { net_id, dev_eui, rj_count0: count },
            RejoinRequest::Type1 { join_eui, dev_eui, rj_count1: count },
            RejoinRequest::Type2 { net_id, dev_eui, rj_count0: count },
        ] {
            let bytes = request.encode(&right);
            let Ok(Frame::Rejoin(signed)) = Frame::parse(&bytes) else { panic!("not one") };
            prop_assert_eq!(signed.fields, request);
            prop_assert!(signed.verify(&right));
        }
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..300), key in key()) {
        let key = Aes::new(&key);
        match Frame::parse(&bytes) {
            Ok(Frame::JoinAccept(sealed)) => {
                let plain = sealed.decrypt(&key);
                prop_assert_eq!(plain.plain().len(), bytes.len() - 5);
                let _ = plain.fields();
            }
            Ok(Frame::Data(frame)) => {
                prop_assert_eq!(frame.decrypt_f_opts(&key, 1).len(), frame.f_opts.len());
                prop_assert_eq!(frame.decrypt_payload(&key, 1).len(), frame.frm_payload.len());
            }
            Ok(Frame::JoinRequest(_) | Frame::Rejoin(_) | Frame::Proprietary(_)) | Err(_) => {}
        }
    }
}

#[test]
fn what_may_not_be_sent_is_not_built() {
    let keys = SessionCiphers::new(&SessionKeys::V1_0 {
        nwk_s_key: Key::from_bytes([1; 16]),
        app_s_key: Key::from_bytes([2; 16]),
    });
    let build = |f_opts: &[u8], f_port, payload: &[u8]| {
        let message = DataMessage {
            direction: Direction::Down,
            confirmed: false,
            dev_addr: DevAddr::from_u32(7),
            fctrl: FCtrl::default(),
            fcnt: 0,
            f_opts,
            f_port,
            payload,
        };
        keys.seal(&message, MicContext::default()).map(|bytes| bytes.len())
    };
    assert_eq!(build(&[], None, &[]), Ok(12));
    assert_eq!(build(&[], Some(5), &[]), Ok(13), "a port without a payload is legal");
    assert_eq!(build(&[2; 15], None, &[]), Ok(27));
    assert_eq!(build(&[2; 16], None, &[]), Err(EncodeError::FOptsTooLong { seen: 16 }));
    assert_eq!(build(&[2], Some(0), &[6]), Err(EncodeError::FOptsWithPortZero));
    assert_eq!(build(&[], None, &[1]), Err(EncodeError::PayloadWithoutPort));
    assert_eq!(build(&[], Some(1), &[0; 242]), Ok(255));
    assert_eq!(build(&[], Some(1), &[0; 243]), Err(EncodeError::TooLong { wanted: 256 }));
    assert_eq!(build(&[2; 15], Some(1), &[0; 228]), Err(EncodeError::TooLong { wanted: 256 }));
}

#[test]
fn rfu_bits_of_a_header_are_ignored() {
    let plain = [0x40, 1, 2, 3, 4, 0x00, 5, 0, 9, 9, 9, 9];
    let mut strange = plain;
    strange[0] |= 0b0001_1100;
    let (Ok(Frame::Data(a)), Ok(Frame::Data(b))) = (Frame::parse(&plain), Frame::parse(&strange))
    else {
        panic!("not data")
    };
    assert_eq!((a.dev_addr, a.fcnt, a.mtype()), (b.dev_addr, b.fcnt, b.mtype()));
    let mut down = plain;
    (down[0], down[5]) = (0x60, 0x40);
    let Ok(Frame::Data(down)) = Frame::parse(&down) else { panic!("not data") };
    assert_eq!(down.fctrl, FCtrl::default(), "bit 6 of a downlink's FCtrl is RFU");
}
