//! What must hold whoever was killed: one event has one content, one downlink number one frame.
//!
//! Fed with what came, in the order of its coming; a broken promise is a panic that names it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use lorawan::Frame;
use serde_json::Value;

fn digest(bytes: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Events by topic and id. Digests of them: a long run sees half a million.
#[derive(Debug, Default)]
pub struct Contents {
    seen: BTreeMap<(u64, String), u64>,
}

impl Contents {
    /// Notes an event.
    ///
    /// * Returns whether it is new; what has no id is never new.
    /// * Panics: its id was seen with another content.
    pub fn note(&mut self, topic: &str, body: &Value) -> bool {
        let Some(id) = body["deduplicationId"].as_str() else { return false };
        let content = digest(body.to_string());
        let before = self.seen.insert((digest(topic), id.to_owned()), content);
        let same = before.is_none_or(|before| before == content);
        assert!(same, "one id, two contents: {topic} {body}");
        before.is_none()
    }
}

/// Downlinks by address and number.
#[derive(Debug, Default)]
pub struct Numbers {
    seen: BTreeMap<(u32, u16), Vec<u8>>,
}

impl Numbers {
    /// Notes a downlink as a gateway received it; what is no data frame has no number.
    ///
    /// * Panics: its number was seen with other bytes.
    pub fn note(&mut self, frame: &[u8]) {
        let Ok(Frame::Data(data)) = Frame::parse(frame) else { return };
        let number = (data.dev_addr.to_u32(), data.fcnt);
        let first = self.seen.entry(number).or_insert_with(|| frame.to_vec());
        let address = data.dev_addr;
        assert_eq!(first.as_slice(), frame, "number {} of {address} is used twice", data.fcnt);
    }

    /// How many numbers were used.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let message = lorawan::DataMessage {
            direction: lorawan::Direction::Down,
            confirmed: false,
            dev_addr: lorawan::DevAddr::from_u32(1),
            fctrl: lorawan::FCtrl::default(),
            fcnt: 7,
            f_opts: &[],
            f_port: Some(1),
            payload,
        };
        let key = lorawan::Aes::new(&lorawan::Key::from_bytes([1; 16]));
        message.encode_1_0(&key, &key).unwrap()
    }

    #[test]
    fn a_repetition_is_no_event_and_no_number_of_its_own() {
        let mut contents = Contents::default();
        let event = json!({"deduplicationId": "a", "data": "x"});
        assert!(contents.note("t", &event));
        assert!(!contents.note("t", &event));
        assert!(contents.note("other", &event));
        assert!(!contents.note("t", &json!({"data": "x"})));
        let mut numbers = Numbers::default();
        numbers.note(&frame(b"x"));
        numbers.note(&frame(b"x"));
        numbers.note(b"no frame");
        assert_eq!(numbers.len(), 1);
    }

    #[test]
    #[should_panic(expected = "one id, two contents")]
    fn an_id_with_two_contents_is_found() {
        let mut contents = Contents::default();
        contents.note("t", &json!({"deduplicationId": "a", "data": "x"}));
        contents.note("t", &json!({"deduplicationId": "a", "data": "y"}));
    }

    #[test]
    #[should_panic(expected = "is used twice")]
    fn a_number_with_two_byte_strings_is_found() {
        let mut numbers = Numbers::default();
        numbers.note(&frame(b"x"));
        numbers.note(&frame(b"y"));
    }
}
