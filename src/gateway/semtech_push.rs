//! The body of a PUSH_DATA: frames heard, statistics, or both.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::semtech_head::{
    DatagramError, Head, from_object, json_error, json_text, push_data_head,
};
use crate::semtech_rxpk::{Rxpk, RxpkError};
use crate::semtech_stat::Stat;

/// Most frames of one datagram that are looked at.
///
/// lora_pkt_fwd sends 8 at most, its successor for newer concentrators up to 255.
pub const RXPK_MAX: usize = 255;

/// What a PUSH_DATA carried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushData {
    /// Usable frames, in the order sent; at most [`RXPK_MAX`].
    pub rxpks: Vec<Rxpk>,
    /// Statistics, if sent and readable.
    pub stat: Option<Stat>,
    /// Why each unusable frame was refused; all beyond [`RXPK_MAX`] are one [`RxpkError::TooMany`].
    pub refused: Vec<RxpkError>,
    /// Why the statistics were refused, the frames being kept.
    pub stat_refused: Option<DatagramError>,
}

/// The outer object. The frames stay text, so that one bad frame costs only itself.
#[derive(Deserialize)]
struct RawPush<'a> {
    #[serde(borrow)]
    rxpk: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    stat: Option<&'a RawValue>,
}

impl PushData {
    /// Reads the JSON after the head.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, DatagramError> {
        let text = json_text(body)?;
        let raw: RawPush<'_> = from_object(text).map_err(|error| json_error(&error))?;
        if raw.rxpk.is_none() && raw.stat.is_none() {
            return Err(DatagramError::Empty);
        }
        let mut push = Self::default();
        let rxpks = raw.rxpk.unwrap_or_default();
        for json in rxpks.iter().take(RXPK_MAX) {
            match Rxpk::parse(json.get()) {
                Ok(rxpk) => push.rxpks.push(rxpk),
                Err(error) => push.refused.push(error),
            }
        }
        if rxpks.len() > RXPK_MAX {
            push.refused.push(RxpkError::TooMany);
        }
        match raw.stat.map(|json| Stat::parse(json.get())) {
            Some(Ok(stat)) => push.stat = Some(stat),
            Some(Err(error)) => push.stat_refused = Some(error),
            None => {}
        }
        Ok(push)
    }

    /// Writes a whole PUSH_DATA, as a forwarder; `refused` and `stat_refused` are not written.
    pub fn encode(&self, head: Head) -> Vec<u8> {
        let mut json = String::from("{");
        if !self.rxpks.is_empty() {
            json.push_str(r#""rxpk":["#);
            for (position, rxpk) in self.rxpks.iter().enumerate() {
                if position > 0 {
                    json.push(',');
                }
                rxpk.encode(&mut json);
            }
            json.push(']');
        }
        if let Some(stat) = &self.stat {
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str(r#""stat":"#);
            stat.encode(&mut json);
        }
        json.push('}');
        let mut datagram = push_data_head(head);
        datagram.extend_from_slice(json.as_bytes());
        datagram
    }
}
