//! Bytes of the log: fixed by example, strict, harmless when hostile.

use proptest::prelude::*;

use super::*;
use crate::limits::ENTRY_BYTES_MAX;
use crate::{
    CodecError, MqttMessage, decode_entry, decode_event_row, encode_entry, encode_event_row,
};

fn entry(command: Command) -> Entry {
    let proposals = vec![Proposal { request: RequestId([5; 16]), command }];
    Entry { wall: wall(1), elapsed_micros: 2, proposals }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn samples() -> Vec<Command> {
    let down = MqttMessage {
        topic: "a/b".into(),
        payload: Bytes::from_static(b"x"),
        qos: 1,
        retain: false,
        queue: true,
        expires_at: None,
        content_type: None,
        response_topic: None,
        correlation_data: Some(vec![1, 2]),
        user_properties: vec![("k".into(), "v".into())],
        is_utf8: true,
        publisher: "c".into(),
        fence: None,
    };
    let fenced = Command::PublishMessage(MqttMessage { fence: Some(3), ..down.clone() });
    vec![
        Command::Boot { node: NODE, boot: 2, feature_level: 3, plate: None },
        Command::DeleteDevice(DEVICE),
        accept(uplink(300)),
        Command::AcceptJoin(Box::new(join(7, 8))),
        Command::PlanDownlink(ask(1)),
        enqueue(item(1, true, 3)),
        activate(ADDRESS, 5),
        Command::PutTenant(create(tenant(TENANT, "t"))),
        Command::PutDevice(Box::new(change(device(DEVICE)))),
        Command::AckMessages { client_id: "c".into(), fence: 9, taken: vec![1, 2] },
        Command::PublishMessage(down),
        Command::CancelItem { dev_eui: DEVICE, item_id: id(1) },
        fenced,
    ]
}

/// A changed line here is a log that running nodes cannot read: number a new field instead.
#[test]
fn the_bytes_of_the_log_stay_as_they_are() {
    let golden = [
        "01831b00065bfeda3522400281825005050505050505050505050505050505820183010203",
        "01831b00065bfeda35224002818250050505050505050505050505050505058215814802020304050607\
         08",
        "01831b00065bfeda35224002818250050505050505050505050505050505058202819348020203040506\
         07080119012c503131313131313131313131313131313101f6f4f4f4f4f4014301020340051a33be27a0\
         820083071a0001e84800801b00065bfeda25e000",
        "01831b00065bfeda35224002818250050505050505050505050505050505058203819148020203040506\
         070848070707070707070707084401020304048301581802020202020202020202020202020202020202\
         020202020258500202020202020202020202020202020202020202020202020202020202020202020202\
         020202020202020202020202020202020202020202020202020202020202020202020202020202020202\
         0202020100008001051a33be27a0820083071a0001e84800801b00065bfeda25e000",
        "01831b00065bfeda35224002818250050505050505050505050505050505058204818948020203040506\
         07080101f6f618330000f4",
        "01831b00065bfeda352240028182500505050505050505050505050505050582181b8248020203040506\
         07088850010101010101010101010101010101010af543010101f6f682008000",
        "01831b00065bfeda35224002818250050505050505050505050505050505058218198248020203040506\
         070895004401020304048301581801010101010101010101010101010101010101010101010158500101\
         010101010101010101010101010101010101010101010101010101010101010101010101010101010101\
         01010101010101010101010101010101010101010101010101010101010101010101010181078405f600\
         058400f600000100001a33d3e60881820700a0000001f480a0f6f5",
        "01831b00065bfeda352240028182500505050505050505050505050505050582068182f48b5001010101\
         010101010101010101010101617460f50000f4f4a00000",
        "01831b00065bfeda352240028182500505050505050505050505050505050582148182f5954802020304\
         05060708500202020202020202020202020202020250030303030303030303030303030303037773656e\
         736f72203032303230333034303530363037303860f6f4f4a0a0f6f6f60080f6f6f6f60000",
        "01831b00065bfeda352240028182500505050505050505050505050505050582182283616309820102",
        "01831b00065bfeda3522400281825005050505050505050505050505050505821823818c63612f624178\
         01f4f5f6f6f64201028182616b6176f56163",
        "01831b00065bfeda35224002818250050505050505050505050505050505058218258248020203040506\
         07085001010101010101010101010101010101",
        "01831b00065bfeda3522400281825005050505050505050505050505050505821823818d63612f624178\
         01f4f5f6f6f64201028182616b6176f5616303",
    ];
    for (command, wanted) in samples().into_iter().zip(golden) {
        let bytes = encode_entry(&entry(command.clone())).unwrap();
        assert_eq!(hex(&bytes), wanted, "{command:?}");
    }
}

#[test]
fn what_is_written_is_read() {
    for command in samples() {
        let entry = entry(command);
        assert_eq!(decode_entry(&encode_entry(&entry).unwrap()), Ok(entry));
    }
    let mut log = Log::with_session();
    let row = log.ask(accept(uplink(8))).1.rows.remove(0);
    assert_eq!(decode_event_row(&encode_event_row(&row)), Ok(row));
}

#[test]
fn what_is_not_understood_is_never_skipped() {
    let whole = encode_entry(&entry(Command::DeleteDevice(DEVICE))).unwrap();
    assert_eq!(decode_entry(&[]), Err(CodecError::Empty));
    let newer = [&[2], &whole[1..]].concat();
    assert_eq!(decode_entry(&newer), Err(CodecError::Version { seen: 2 }));
    let long = vec![1; ENTRY_BYTES_MAX + 1];
    assert_eq!(decode_entry(&long), Err(CodecError::TooLong { bytes: long.len() }));
    let trailing = [&whole[..], &[0]].concat();
    assert_eq!(decode_entry(&trailing), Err(CodecError::NotCanonical));
    // A command of tomorrow, number 900.
    let (mut unknown, at) = (whole.clone(), whole.len() - 11);
    assert_eq!(unknown[at], 21, "the number of DeleteDevice");
    unknown.splice(at..=at, [0x19, 0x03, 0x84]);
    assert!(matches!(decode_entry(&unknown), Err(CodecError::Unknown(_))));
    // A field of tomorrow at the end of the entry, which lies open to a lenient reader.
    let mut more = whole.clone();
    assert_eq!(more[1], 0x83, "an array of three fields");
    more[1] = 0x84;
    more.push(0x01);
    assert_eq!(decode_entry(&more), Err(CodecError::NotCanonical));
}

#[test]
fn lengths_that_are_only_told_are_not_believed() {
    let table: [&[u8]; 8] = [
        &[1, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[1, 0x83, 0x00, 0x00, 0x9b, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[1, 0x83, 0x00, 0x00, 0x81, 0x82, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[1, 0x83, 0x00, 0x00, 0x9f],
        &[1, 0x83, 0x1b],
        &[1, 0xf6],
        &[1, 0x83, 0x00, 0x00, 0x81, 0x82, 0x50],
        &[1],
    ];
    for bytes in table {
        assert!(decode_entry(bytes).is_err(), "{}", hex(bytes));
    }
    let nested = [&[1_u8][..], &[0x81; 100_000]].concat();
    assert!(decode_entry(&nested).is_err());
    // As an unknown field, which a lenient reader walks through to skip it.
    let skipped = [&[1, 0x84, 0, 0, 0x80][..], &[0x81; 100_000]].concat();
    assert!(decode_entry(&skipped).is_err());
}

#[test]
fn a_cut_entry_is_an_error_at_every_length() {
    for command in samples() {
        let whole = encode_entry(&entry(command)).unwrap();
        for length in 0..whole.len() {
            assert!(decode_entry(&whole[..length]).is_err());
        }
    }
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic_and_never_pass_for_others(
        which in 0_usize..12,
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let original = entry(samples().swap_remove(which));
        let mut bytes = encode_entry(&original).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = decode_entry(&bytes) {
            prop_assert_eq!(encode_entry(&read).unwrap(), bytes);
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [&[1], &noise[..]].concat();
        if let Ok(read) = decode_entry(&bytes) {
            prop_assert_eq!(encode_entry(&read).unwrap(), bytes);
        }
        let _ = decode_event_row(&noise);
    }
}
