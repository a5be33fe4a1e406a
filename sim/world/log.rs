//! Event JSON back into what the invariants compare, and an auditor who reads along.
//!
//! The auditor reads the event log from its beginning after each boot, and goes on reading: a row
//! that was ever seen must stay what it was, whatever happens to the node.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lorawan::{DevAddr, DevEui};
use node::api::wire::EventItem;
use node::api::{Operation, Outcome};
use serde_json::Value;

use super::machine::Machine;
use super::operator::Operator;
use super::record::Record;
use crate::oracle::{Event, Fact, Reading};
use crate::runtime::sleep_virtual;

/// How often the auditor reads.
const AUDIT_EVERY: Duration = Duration::from_secs(5);

fn text<'a>(body: &'a Value, path: &str) -> Result<&'a str, String> {
    let value = body.pointer(path).and_then(Value::as_str);
    value.ok_or_else(|| format!("no text at {path} in {body}"))
}

fn number(body: &Value, path: &str) -> Result<u64, String> {
    match body.pointer(path) {
        // The field's JSON leaves zeros out.
        None => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| format!("no number at {path} in {body}")),
    }
}

fn parsed<T>(body: &Value, path: &str) -> Result<T, String>
where
    T: FromStr<Err = lorawan::ParseIdError>,
{
    text(body, path)?.parse().map_err(|error: lorawan::ParseIdError| error.to_string())
}

/// Device, address and identity of a join event.
fn activation(body: &Value) -> Result<(DevEui, DevAddr, &str), String> {
    let dev_eui = parsed(body, "/deviceInfo/devEui")?;
    Ok((dev_eui, parsed(body, "/devAddr")?, text(body, "/deduplicationId")?))
}

/// An uplink event out of its JSON.
///
/// Errors: the field that is missing or has the wrong type.
pub(super) fn uplink(body: &Value) -> Result<Event, String> {
    let device: DevEui = parsed(body, "/deviceInfo/devEui")?;
    let dev_addr: DevAddr = parsed(body, "/devAddr")?;
    let data = body.pointer("/data").and_then(Value::as_str).unwrap_or_default();
    let payload = STANDARD.decode(data).map_err(|error| error.to_string())?;
    let f_port = u8::try_from(number(body, "/fPort")?).map_err(|error| error.to_string())?;
    let f_cnt = u32::try_from(number(body, "/fCnt")?).map_err(|error| error.to_string())?;
    let reading = Reading {
        device,
        dev_addr,
        f_cnt,
        f_port: (f_port > 0).then_some(f_port),
        payload: Bytes::from(payload),
    };
    Ok(Event { id: text(body, "/deduplicationId")?.to_owned(), reading })
}

/// Turns rows of the event log into facts, in order, from the first row on.
///
/// A row does not say to which session it belongs. Each join begins one, and its address tells the
/// rows of it: a frame of the session before may still be accepted after a join. A personalised
/// device has one address for ever; where its counter may start anew, a number that does not rise
/// begins the next session, unless it is the last reading once more, which nobody may accept twice.
#[derive(Debug, Default)]
pub(super) struct Auditor {
    lives: BTreeMap<DevEui, Life>,
    /// The last row seen.
    pub(super) last: u64,
    /// A row was missing: to which session what follows belongs cannot be known.
    lost: bool,
}

/// The sessions of one device so far.
#[derive(Debug, Default)]
struct Life {
    sessions: u64,
    by_address: BTreeMap<DevAddr, u64>,
    last: Option<Reading>,
}

impl Life {
    fn begin(&mut self, dev_addr: DevAddr) {
        self.sessions += 1;
        self.by_address.insert(dev_addr, self.sessions);
    }

    /// The session of a reading that was accepted.
    fn epoch_of(&mut self, reading: &Reading, may_reset: bool) -> u64 {
        let starts_anew =
            |last: &Reading| may_reset && reading.f_cnt <= last.f_cnt && reading != last;
        if self.last.as_ref().is_some_and(starts_anew) {
            self.begin(reading.dev_addr);
        }
        self.last = Some(reading.clone());
        self.by_address.get(&reading.dev_addr).copied().unwrap_or(0)
    }
}

impl Auditor {
    /// Takes the next row; returns the uplink in it, if it is one.
    pub(super) fn take(&mut self, row: &EventItem, record: &Record) -> Option<Event> {
        if row.sequence != self.last + 1 && !self.lost {
            let text = format!("event row {} follows row {}", row.sequence, self.last);
            record.violate("S6", text);
            self.lost = true;
        }
        self.last = row.sequence;
        if self.lost {
            return None;
        }
        match row.event.as_str() {
            "up" => match uplink(&row.body) {
                Ok(event) => {
                    let device = event.reading.device;
                    let life = self.lives.entry(device).or_default();
                    let session_epoch = life.epoch_of(&event.reading, record.may_reset(device));
                    let index = row.sequence;
                    let line = format!("row {index}: up {} of {device}", event.reading.f_cnt);
                    let fact = Fact::Accepted { index, session_epoch, event: event.clone() };
                    record.fact("audit", &line, fact);
                    return Some(event);
                }
                Err(why) => record.violate("S6", format!("row {}: {why}", row.sequence)),
            },
            "join" => match activation(&row.body) {
                Ok((dev_eui, dev_addr, id)) => {
                    self.lives.entry(dev_eui).or_default().begin(dev_addr);
                    record.activated(row.sequence, dev_eui, dev_addr, id);
                }
                Err(why) => record.violate("S4", format!("row {}: {why}", row.sequence)),
            },
            _ => {}
        }
        None
    }
}

/// Reads along for ever.
pub(super) async fn audit(machine: Machine, operator: Operator, record: Record) {
    let mut boot = machine.boot_number();
    let mut reading = Auditor::default();
    loop {
        sleep_virtual(AUDIT_EVERY).await;
        if boot != machine.boot_number() {
            boot = machine.boot_number();
            reading = Auditor::default();
        }
        if let Ok(Outcome::Metrics(metrics)) = operator.call(Operation::GetMetrics).await {
            record.metrics(&format!("{} {boot}", machine.name()), &metrics);
        }
        let Ok(rows) = operator.events(reading.last).await else { continue };
        if boot == machine.boot_number() {
            for row in &rows {
                reading.take(row, &record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(dev_addr: u32, f_cnt: u32, payload: &'static str) -> Reading {
        Reading {
            device: DevEui::default(),
            dev_addr: DevAddr::from_u32(dev_addr),
            f_cnt,
            f_port: Some(10),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    #[test]
    fn the_address_tells_the_session_also_of_a_frame_that_comes_after_the_next_join() {
        let mut life = Life::default();
        life.begin(DevAddr::from_u32(1));
        assert_eq!(life.epoch_of(&reading(1, 0, "a"), false), 1);
        life.begin(DevAddr::from_u32(2));
        assert_eq!(life.epoch_of(&reading(1, 1, "b"), false), 1);
        assert_eq!(life.epoch_of(&reading(2, 0, "c"), false), 2);
        assert_eq!(life.epoch_of(&reading(2, 0, "d"), false), 2, "a second frame of one number");
    }

    #[test]
    fn a_number_that_does_not_rise_begins_a_session_where_it_may() {
        let mut life = Life::default();
        assert_eq!(life.epoch_of(&reading(1, 7, "a"), true), 0);
        assert_eq!(life.epoch_of(&reading(1, 8, "b"), true), 0);
        assert_eq!(life.epoch_of(&reading(1, 0, "c"), true), 1, "it counts anew");
        assert_eq!(life.epoch_of(&reading(1, 0, "d"), true), 2, "and at once again");
        assert_eq!(life.epoch_of(&reading(1, 0, "d"), true), 2, "the same reading: no reset");
        assert_eq!(life.epoch_of(&reading(1, 1, "e"), true), 2);
    }
}
