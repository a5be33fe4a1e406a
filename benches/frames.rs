//! One 20-byte uplink: parsed, verified, decrypted. The goal is 1.5 us for the three together.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lorawan::{Aes, DataMessage, DevAddr, Direction, FCtrl, Frame, Key};

fn keys() -> (Key, Key) {
    (Key::from_bytes([1; 16]), Key::from_bytes([2; 16]))
}

fn uplink() -> Vec<u8> {
    let message = DataMessage {
        direction: Direction::Up,
        confirmed: false,
        dev_addr: DevAddr::from_u32(0x0100_0001),
        fctrl: FCtrl::default(),
        fcnt: 7,
        f_opts: &[],
        f_port: Some(10),
        payload: &[0xA5; 20],
    };
    let (nwk, app) = keys();
    message.encode_1_0(&Aes::new(&nwk), &Aes::new(&app)).expect("a legal frame")
}

fn frames(criterion: &mut Criterion) {
    let bytes = uplink();
    let (nwk, app) = keys();
    let (nwk_cipher, app_cipher) = (Aes::new(&nwk), Aes::new(&app));
    criterion.bench_function("parse", |bencher| {
        bencher.iter(|| Frame::parse(black_box(&bytes)).is_ok());
    });
    let Ok(Frame::Data(frame)) = Frame::parse(&bytes) else { panic!("a data frame") };
    criterion.bench_function("mic", |bencher| {
        bencher.iter(|| black_box(&frame).verify_1_0(&nwk_cipher, 7));
    });
    criterion.bench_function("decrypt", |bencher| {
        bencher.iter(|| black_box(&frame).decrypt_payload(&app_cipher, 7));
    });
    criterion.bench_function("parse + key schedules + mic + decrypt", |bencher| {
        bencher.iter(|| {
            let Ok(Frame::Data(frame)) = Frame::parse(black_box(&bytes)) else { return None };
            let genuine = frame.verify_1_0(&Aes::new(&nwk), 7);
            genuine.then(|| frame.decrypt_payload(&Aes::new(&app), 7))
        });
    });
}

criterion_group!(benches, frames);
criterion_main!(benches);
