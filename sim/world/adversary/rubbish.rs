//! Datagrams that are none of the protocol's: prepared once for an attack, then sent by the
//! thousand.

use std::fmt::Write as _;

use bytes::Bytes;
use gateway::semtech::{DATAGRAM_LEN_MAX, Head, Version, encode_pull_data};
use lorawan::GatewayEui;

use crate::dice::Dice;

/// Datagrams of each drawn kind.
const EACH: u64 = 24;
/// How deep the deep ones are nested.
const DEPTH: usize = 12_000;
/// One in so many is of the largest size: they are dear.
const LARGE_ONE_IN: u64 = 200;

/// Bodies that are JSON, or nearly, and make no sense.
const NONSENSE: [&str; 28] = [
    "",
    "{",
    "null",
    "[]",
    "\"rxpk\"",
    "{}",
    "{\"rxpk\":{}}",
    "{\"rxpk\":[null,1,\"x\",{}]}",
    "{\"rxpk\":[],\"rxpk\":[]}",
    "{\"stat\":[]}",
    "{\"stat\":{\"rxnb\":-1,\"lati\":1e308,\"long\":-1e308,\"alti\":1e99}}",
    "{\"stat\":{\"time\":\"9999-99-99 99:99:99 GMT\"}}",
    "{\"rxpk\":[{\"tmst\":99999999999999999999}]}",
    "{\"rxpk\":[{\"tmst\":-1,\"freq\":1e400}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":NaN,\"data\":\"AA==\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":868.1,\"datr\":\"SF99BW999\",\"modu\":\"LORA\",\
     \"codr\":\"4/5\",\"rssi\":-30,\"lsnr\":9,\"size\":1,\"data\":\"AA==\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":1e308,\"datr\":\"SF7BW125\",\"modu\":\"LORA\",\
     \"codr\":\"4/5\",\"rssi\":-30,\"lsnr\":9,\"size\":1,\"data\":\"AA==\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":868.1,\"datr\":\"SF7BW125\",\"modu\":\"LORA\",\
     \"codr\":\"4/5\",\"rssi\":1e300,\"lsnr\":-1e300,\"size\":4294967295,\"data\":\"AA==\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":868.1,\"datr\":\"SF7BW125\",\"modu\":\"LORA\",\
     \"codr\":\"4/5\",\"rssi\":-30,\"lsnr\":9,\"size\":1,\"data\":\"A\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":868.1,\"datr\":\"SF7BW125\",\"modu\":\"LORA\",\
     \"codr\":\"4/5\",\"rssi\":-30,\"lsnr\":9,\"size\":1,\"data\":\"/w==\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"freq\":868.1,\"datr\":4294967296,\"modu\":\"FSK\",\
     \"rssi\":-30,\"size\":1,\"data\":\"AA==\"}]}",
    "{\"rxpk\":[{\"tmst\":1,\"tmms\":18446744073709551615,\"freq\":868.1,\"datr\":\"SF7BW125\",\
     \"modu\":\"LORA\",\"codr\":\"4/5\",\"rssi\":-30,\"lsnr\":9,\"size\":1,\"data\":\"gA==\"}]}",
    "{\"txpk_ack\":{\"error\":7}}",
    "{\"txpk_ack\":{\"warn\":\"TX_POWER\",\"value\":1e308}}",
    "\u{feff}{\"rxpk\":[]}",
    "{\"rxpk\":[]}\0\0\0",
    "{\"\\ud800\":1}",
    "{\"stat\":{\"time\":\"\u{202e}\u{1f4a5}\"}}",
];

/// A pool of them.
pub(super) struct Rubbish {
    small: Vec<Bytes>,
    large: Vec<Bytes>,
}

impl Rubbish {
    /// * `face`: the gateway in whose name some of them are sent.
    pub(super) fn new(dice: &mut Dice, face: GatewayEui) -> Self {
        let head = |kind: u8| {
            let mut head = encode_pull_data(Head { version: Version::V2, token: 7, gateway: face });
            head[3] = kind;
            head
        };
        let with = |kind: u8, body: &[u8]| Bytes::from([&head(kind)[..], body].concat());
        let mut small = Vec::new();
        for body in NONSENSE {
            // As PUSH_DATA, as PULL_DATA and as TX_ACK.
            small.extend([0, 2, 5].map(|kind| with(kind, body.as_bytes())));
        }
        for _ in 0..EACH {
            small.push(noise(dice, 12).into());
            small.push(noise(dice, 600).into());
            small.push(with(0, &noise(dice, 300)));
            small.push(with(5, &noise(dice, 100)));
            small.push(with(0, &cut_short(dice)));
            let mut odd = head(0);
            odd[0] = u8::try_from(dice.below(256)).unwrap_or(0);
            odd[3] = u8::try_from(dice.below(256)).unwrap_or(0);
            small.push(odd.into());
        }
        for eui in [0, 0xFF] {
            let mut nobody = head(0);
            nobody[4..].fill(eui);
            small.push(nobody.into());
        }
        small.push(with(0, many_frames().as_bytes()));
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"rxpk\":[", "]}")] {
            let deep = format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
            small.push(with(0, &deep.as_bytes()[..deep.len().min(DATAGRAM_LEN_MAX - 12)]));
        }
        let room = DATAGRAM_LEN_MAX - 12;
        let filled = |byte: u8| with(0, &vec![byte; room]);
        let mut large = vec![filled(b' '), filled(b'['), filled(b'"'), filled(0xFF)];
        let mut random = vec![0; DATAGRAM_LEN_MAX];
        dice.fill(&mut random);
        large.push(random.into());
        Self { small, large }
    }

    /// One of them; always as many draws.
    pub(super) fn pick(&self, dice: &mut Dice) -> Bytes {
        let large = dice.below(LARGE_ONE_IN) == 0;
        let pool = if large { &self.large } else { &self.small };
        pool[dice.index(pool.len())].clone()
    }
}

/// Up to `len_max` bytes of anything.
fn noise(dice: &mut Dice, len_max: u64) -> Vec<u8> {
    let len = usize::try_from(dice.below(len_max)).unwrap_or(0);
    let mut bytes = vec![0; len];
    dice.fill(&mut bytes);
    bytes
}

/// The beginning of something that makes sense.
fn cut_short(dice: &mut Dice) -> Vec<u8> {
    let whole = NONSENSE[15];
    let len = dice.index(whole.len());
    whole.as_bytes()[..len].to_vec()
}

/// More frames than a datagram may bring, none of them one.
fn many_frames() -> String {
    let mut body = String::from("{\"rxpk\":[");
    for number in 0..2_000 {
        let comma = if number == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(body, "{comma}{{\"tmst\":{number}}}");
    }
    body.push_str("]}");
    body
}
