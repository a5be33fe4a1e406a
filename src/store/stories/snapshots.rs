//! Snapshots: whole or refused, equal to what they were taken from, and small per device.

use proptest::prelude::*;

use super::*;
use crate::{MqttSubscription, PIECE_BYTES, SnapshotBuilder, SnapshotError};

fn restore(state: &State) -> State {
    let mut builder = SnapshotBuilder::new();
    for piece in state.snapshot() {
        builder.feed(&piece).unwrap();
    }
    builder.finish().unwrap()
}

fn eui(number: u64) -> DevEui {
    DevEui::from_be_bytes(number.to_be_bytes())
}

/// `count` devices, activated over the air, each with one uplink.
fn fleet(count: u64) -> Log {
    let mut log = Log::founded();
    for number in 1..=count {
        let dev_eui = eui(number);
        let mut born = device(dev_eui);
        born.keys = Some(crate::model::DeviceKeys {
            nwk_key: sealed(9),
            app_key: None,
            next_join_nonce: JoinNonce(1),
            dev_nonces: vec![],
        });
        let dev_addr = DevAddr::from_u32(u32::try_from(number).unwrap());
        let asked = AcceptJoin { dev_eui, dev_addr, ..join(1, 1) };
        let reception = mac::Reception {
            gateway: lorawan::GatewayEui::default(),
            uplink_id: 1,
            ns_time: wall(0),
            gw_time: None,
            gps_micros: None,
            rssi_dbm: -100,
            snr_ddb: 50,
            channel: 1,
            rf_chain: 0,
            antenna: 0,
            tmst: 1,
            crc_ok: true,
        };
        let heard = AcceptUplink {
            dev_eui,
            data: Bytes::from_static(&[0; 20]),
            receptions: vec![reception],
            ..uplink(0)
        };
        let commands = [
            Command::PutDevice(Box::new(create(born))),
            Command::AcceptJoin(Box::new(asked)),
            accept(heard),
        ];
        let proposals =
            commands.map(|command| Proposal { request: log.request(), command }).to_vec();
        let applied = log.entry(proposals);
        assert_eq!(applied.rows.len(), 2);
    }
    log
}

#[test]
fn a_snapshot_becomes_the_same_state() {
    let mut log = fleet(700);
    log.done(Command::PutMqttAccount(create(account("all", MqttScope::All))));
    let client_id = "c".to_owned();
    let opened = log.ask(Command::OpenClientSession {
        client_id: client_id.clone(),
        account: "all".into(),
        clean_start: false,
        expiry_s: 60,
        node: NODE,
    });
    let Reply::ClientSession { fence, .. } = opened.0 else { panic!() };
    let add = vec![MqttSubscription {
        filter: "application/#".into(),
        qos: 1,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        identifier: None,
    }];
    log.done(Command::Subscribe { client_id: client_id.clone(), fence, add, remove: vec![] });
    log.ask(accept(AcceptUplink { dev_eui: eui(5), ..uplink(1) }));
    log.done(Command::CloseClientSession { client_id, fence, end: false });
    let pieces: Vec<_> = log.state.snapshot().collect();
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() < 2 * PIECE_BYTES));
    let mut twin = log.clone();
    twin.state = restore(&log.state);
    assert_eq!(twin.state.state_hash(), log.state.state_hash());
    // What is derived works as before: addresses, subscriptions, ends of sessions, retries, names.
    let again = |log: &mut Log| {
        let found = log.state.sessions_by_addr(DevAddr::from_u32(6)).count();
        let frame = AcceptUplink { dev_eui: eui(6), ..uplink(1) };
        let rows = log.ask(accept(frame)).1.rows;
        let waiting = log.state.client_queue("c", 0).count();
        let count = log.state.application_device_count(APPLICATION);
        (found, rows, waiting, count, log.pass(60).changes, log.state.state_hash())
    };
    let (here, there) = (again(&mut log), again(&mut twin));
    assert_eq!(here, there);
    assert_eq!((here.0, here.2, here.3, here.4.len()), (1, 2, 700, 1));
}

#[test]
fn a_snapshot_is_of_the_moment_it_was_taken() {
    let mut log = fleet(400);
    let before = log.state.state_hash();
    let mut reader = log.state.snapshot();
    let mut builder = SnapshotBuilder::new();
    builder.feed(&reader.next_piece().unwrap()).unwrap();
    log.done(Command::DeleteTenant(TENANT));
    for piece in reader {
        builder.feed(&piece).unwrap();
    }
    assert_eq!(builder.finish().unwrap().state_hash(), before);
}

#[test]
fn a_snapshot_that_is_not_whole_is_refused() {
    let log = fleet(700);
    let pieces: Vec<_> = log.state.snapshot().collect();
    let feed = |pieces: &[&Vec<u8>]| {
        let mut builder = SnapshotBuilder::new();
        pieces.iter().try_for_each(|piece| builder.feed(piece))?;
        builder.finish().map(|_| ())
    };
    let all: Vec<_> = pieces.iter().collect();
    assert_eq!(feed(&all), Ok(()));
    assert_eq!(feed(&[]), Err(SnapshotError::NotWhole));
    assert_eq!(feed(&all[..all.len() - 1]), Err(SnapshotError::NotWhole));
    let doubled = [&[all[0], all[1]], &all[1..]].concat();
    assert!(feed(&doubled).is_err());
    assert!(feed(&all[1..]).is_err(), "the header is missing");
    assert!(feed(&[&all[..], &all[..]].concat()).is_err());
    for at in [0, 7, pieces[0].len() / 2, pieces[0].len() - 1] {
        let mut damaged = pieces[0].clone();
        damaged[at] ^= 1;
        let mut wrong = all.clone();
        wrong[0] = &damaged;
        assert!(feed(&wrong).is_err(), "{at}");
    }
    let cut = pieces[0][..pieces[0].len() - 3].to_vec();
    assert!(feed(&[&cut]).is_err());
}

proptest! {
    #[test]
    fn a_damaged_piece_never_panics_and_never_passes(
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        length in any::<prop::sample::Index>(),
    ) {
        let whole = SMALL.with(Clone::clone);
        let mut piece = whole.clone();
        let at = at.index(piece.len());
        piece[at] ^= flip;
        let mut builder = SnapshotBuilder::new();
        prop_assert!(builder.feed(&piece).is_err() || builder.finish().is_err());
        let mut builder = SnapshotBuilder::new();
        let cut = &whole[..length.index(whole.len())];
        prop_assert!(builder.feed(cut).is_err() || builder.finish().is_err());
    }
}

thread_local! {
    static SMALL: Vec<u8> = fleet(3).state.snapshot().next_piece().unwrap();
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    4_096 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

/// `cargo test -p store --release -- --ignored --exact stories::snapshots::a_device_is_small`
#[test]
#[ignore = "measures the whole process: run it alone"]
fn a_device_is_small() {
    let before = resident_bytes();
    let log = fleet(100_000);
    let each = (resident_bytes() - before) / 100_000;
    assert_eq!(log.state.device_count(), 100_000);
    assert!(each < 1_900, "{each} bytes for an activated device with one uplink");
}
