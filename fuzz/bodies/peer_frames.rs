//! Bytes as what one node says to another: at the door, before anybody has proved anything, and
//! inside the channel, where only members are and a bug or a stolen cookie speaks.
//!
//! The first byte chooses what the rest is read as. What is read is written and read alike; at the
//! door nothing is answered to who does not know the cookie.

use cluster::founding::{Hello, Message};
use host::peer::probe::{self, Part};
use minicbor::{Decode, Encode};
use openraft_rt_tokio::TokioRuntime;

const PARTS: [Part; 6] =
    [Part::Frame, Part::Hello, Part::Greeting, Part::Ask, Part::Answer, Part::Tell];
/// Kinds beyond the parts of a channel.
const FOUNDING: u8 = 6;
const FOUNDING_HELLO: u8 = 7;
const DOOR: u8 = 8;
const KINDS: u8 = 9;

/// One input.
pub fn run(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    match kind % KINDS {
        FOUNDING => {
            let Ok(message) = Message::from_bytes(rest) else { return };
            let again = Message::from_bytes(&message.to_bytes()).expect("our own bytes");
            assert_eq!(again, message);
        }
        FOUNDING_HELLO => {
            let Ok(hello) = Hello::from_bytes(rest) else { return };
            let again = Hello::from_bytes(&hello.to_bytes()).expect("our own bytes");
            assert_eq!(again, hello);
        }
        DOOR => {
            let [piece, said @ ..] = rest else { return };
            let (answer, let_in) = probe::knock(said, usize::from(*piece));
            assert!(answer.is_empty() && !let_in, "who knows no cookie gets nothing");
        }
        part => {
            let part = PARTS[usize::from(part)];
            let Some(written) = probe::read::<TokioRuntime>(part, rest) else { return };
            let again = probe::read::<TokioRuntime>(part, &written).expect("our own bytes");
            assert_eq!(again, written, "{part:?}");
        }
    }
}

/// A file of the corpus: its kind, and what follows.
fn file(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[kind], rest].concat()
}

fn cbor<T: Encode<()> + for<'b> Decode<'b, ()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to a vector cannot fail")
}

/// A head that promises this many: 0x9A a list, 0x5A bytes, 0x7A a text, 0xBA a map.
fn claim(head: u8, length: u32) -> Vec<u8> {
    [&[head], &length.to_be_bytes()[..]].concat()
}

/// The first words of a node without a cluster.
fn hello() -> Vec<u8> {
    let strange = ("n2@h", "h:6369");
    let mut bytes = vec![0x8B, 0x82, 1, 1, 0xF6, 0xF6, 3];
    bytes.extend(cbor(&strange.0.to_owned()));
    bytes.extend(cbor(&strange.1.to_owned()));
    bytes.extend([2, 0xF6, 0, 0, 0xF4]);
    bytes
}

/// What a hostile peer says first: truncated, with lengths beyond all memory, nested without end,
/// under wrong tags; and one of each kind that is sound.
pub fn files() -> impl Iterator<Item = (String, Vec<u8>)> {
    let sealed = |length: u16| [&length.to_be_bytes()[..], &[0xA7; 80]].concat();
    let whole = hello();
    let mut files = vec![
        ("nothing", vec![]),
        ("frame_ask", file(0, b"\0\0\0\0\0\0\0\0\x07\x82\0\x80")),
        ("frame_short", file(0, &[0; 8])),
        ("frame_of_no_kind", file(0, &[9; 9])),
        ("hello", file(1, &whole)),
        ("hello_cut", file(1, &whole[..whole.len() / 2])),
        ("hello_of_a_newer_version", file(1, &[&[0x8D], &whole[1..], &[0, 0x80]].concat())),
        ("greeting_refused", file(2, b"\x82\x02\x81\x63no.")),
        ("greeting_removed", file(2, &[0x82, 1, 0x81, 3])),
        ("answer_lags_endless", file(4, &[&[0x82, 10, 0x81][..], &claim(0xBA, u32::MAX)].concat())),
        (
            "answer_index",
            file(4, &[0x82, 6, 0x81, 0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ),
        ("answer_rows", file(4, &[0x82, 8, 0x81, 0x81, 0x82, 1, 0x41, 0])),
        ("tell_node", file(5, &[0x82, 0, 0x81, 0x41, 7])),
        ("tell_founding", file(5, &[0x82, 1, 0x81, 0x42, 0x82, 0])),
        ("founding_ask", file(FOUNDING, &Message::Ask.to_bytes())),
        ("founding_deep", file(FOUNDING, &[0x82; 3_000])),
        (
            "founding_endless",
            file(FOUNDING, &[&[0x82, 6, 0x81, 0x83, 0x40][..], &claim(0x9A, u32::MAX)].concat()),
        ),
        ("door_wrong_cookie", file(DOOR, &[&[255][..], &sealed(48)].concat())),
        ("door_byte_by_byte", file(DOOR, &[&[1][..], &sealed(48)].concat())),
        ("door_other_length", file(DOOR, &[&[255][..], &sealed(49)].concat())),
        ("door_longest", file(DOOR, &[&[255][..], &sealed(u16::MAX)].concat())),
        ("door_cut", file(DOOR, &[255, 0, 48, 1])),
    ];
    files.extend(ask_files());
    files.extend(founding_files());
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes))
}

/// Requests inside the channel.
fn ask_files() -> Vec<(&'static str, Vec<u8>)> {
    let ballot = [0x83, 5, 1, 0xF5];
    let position = [0x83, 5, 1, 9];
    let append = [&[0x82, 1, 0x81, 0x84], &ballot[..], &position, &position].concat();
    vec![
        ("ask_alive", file(3, &[0x82, 0, 0x80])),
        ("ask_vote", file(3, &[&[0x82, 2, 0x81, 0x83], &ballot[..], &position, &[0xF4]].concat())),
        ("ask_append", file(3, &[&append[..], &[0x81, 0x45, 1, 0x82, 5, 0x82, 0]].concat())),
        ("ask_append_endless", file(3, &[&append[..], &claim(0x9A, u32::MAX)].concat())),
        ("ask_forward_endless", file(3, &[&[0x82, 8, 0x81][..], &claim(0x9A, u32::MAX)].concat())),
        (
            "ask_piece_endless",
            file(3, &[&[0x82, 6, 0x83, 1, 1][..], &claim(0x5A, u32::MAX)].concat()),
        ),
        ("ask_admit", file(3, &[&[0x82, 10, 0x81, 0x50][..], &[5; 16]].concat())),
        ("ask_invite_endless", file(3, &[&[0x82, 12, 0x81][..], &claim(0x7A, u32::MAX)].concat())),
        ("ask_of_no_number", file(3, &[0x82, 0x18, 99, 0x80])),
        ("ask_deep", file(3, &[0x81; 3_000])),
        ("ask_tags", file(3, &[0xC1; 3_000])),
    ]
}

/// Messages of a founding that are sound, one of each.
fn founding_files() -> Vec<(&'static str, Vec<u8>)> {
    use cluster::founding::{Ballot, Genesis, Vote, Voter};
    use cluster::identity::NodeKey;
    let ballot = Ballot { round: 3, by: NodeKey([2; 32]) };
    let voter = |raft_id: u8| Voter {
        raft_id: raft_id.into(),
        key: NodeKey([raft_id; 32]),
        name: format!("n{raft_id}@h"),
        address: format!("h{raft_id}:6369"),
    };
    let voters = vec![voter(1), voter(2), voter(3)];
    let genesis = Genesis { cluster_id: [9; 16], voters, sealed_key: vec![4; 72] };
    let vote = Vote { ballot, genesis: genesis.clone() };
    let hello = Hello {
        name: "n1@h".into(),
        address: "h:6369".into(),
        seeds: [1; 32],
        cluster: Some([9; 16]),
    };
    let promise = Message::Promise { ballot, accepted: Some(vote.clone()) };
    let elsewhere = Message::Elsewhere { cluster_id: [9; 16], address: "h:6369".into() };
    vec![
        ("founding_promise", file(FOUNDING, &promise.to_bytes())),
        ("founding_accept", file(FOUNDING, &Message::Accept { vote }.to_bytes())),
        ("founding_decided", file(FOUNDING, &Message::Decided { genesis }.to_bytes())),
        ("founding_elsewhere", file(FOUNDING, &elsewhere.to_bytes())),
        ("founding_hello", file(FOUNDING_HELLO, &hello.to_bytes())),
    ]
}
