//! Rows of an explanation, and MAC commands in words.

use lorawan::{Direction, DownlinkMacCommand, MacCommand, UplinkMacCommand};
use serde_json::Value;

use super::mac_json;
use super::measure::hex;

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The field's name as the specification has it; indented below what it is part of.
    pub field: String,
    /// Its bytes as they travel, or in the clear where the meaning says so.
    pub hex: String,
    /// What it says.
    pub meaning: String,
}

impl Row {
    pub(super) fn new(field: &str, bytes: &[u8], meaning: impl Into<String>) -> Self {
        Self { field: field.into(), hex: hex(bytes), meaning: meaning.into() }
    }
}

/// Bytes in the second column before it grows no further: a long payload does not push the
/// meanings off the screen.
const HEX_COLUMN_MAX: usize = 40;

/// The rows as text, in aligned columns, one line each with a line feed.
pub fn render(rows: &[Row]) -> String {
    let fields = rows.iter().map(|row| row.field.len()).max().unwrap_or(0);
    let hexes = rows.iter().map(|row| row.hex.len()).filter(|len| *len <= HEX_COLUMN_MAX);
    let hexes = hexes.max().unwrap_or(0);
    let mut text = String::new();
    for Row { field, hex, meaning } in rows {
        let line = format!("{field:fields$}  {hex:hexes$}  {meaning}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A block of MAC commands in the clear, a row each; the last says what could not be read.
pub(super) fn mac_rows(direction: Direction, block: &[u8]) -> Vec<Row> {
    match direction {
        Direction::Up => walk::<UplinkMacCommand>(block, mac_json::uplink),
        Direction::Down => walk::<DownlinkMacCommand>(block, mac_json::downlink),
    }
}

fn walk<C: MacCommand>(block: &[u8], fields: impl Fn(&C) -> Value) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut commands = C::walk(block);
    let mut from = 0;
    while let Some(item) = commands.next() {
        let to = block.len() - commands.left();
        let row = match item {
            Ok(command) => Row::new(
                &format!("  {}", command.name()),
                &block[from..to],
                words(&fields(&command)),
            ),
            Err(error) => Row::new("  unreadable", &block[from..to], error.to_string()),
        };
        rows.push(row);
        from = to;
    }
    rows
}

/// `{"Name": {"dr": 3, "on": true}}` as `dr 3, on true`.
fn words(command: &Value) -> String {
    let mut words = Vec::new();
    if let Value::Object(named) = command {
        named.values().for_each(|fields| collect("", fields, &mut words));
    }
    words.join(", ")
}

fn collect(name: &str, value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| collect(name, inner, words))
        }
        Value::Array(list) => words.push(format!("{name} {}", list_words(list))),
        Value::String(text) => words.push(format!("{name} {text}")),
        Value::Null | Value::Bool(_) | Value::Number(_) => words.push(format!("{name} {value}")),
    }
}

/// A mask as the numbers of the bits that are set, bytes as hexadecimal.
fn list_words(list: &[Value]) -> String {
    let set = list.iter().enumerate().filter(|(_, value)| **value == Value::Bool(true));
    let set: Vec<String> = set.map(|(at, _)| at.to_string()).collect();
    let bytes: Vec<u8> =
        list.iter().filter_map(|value| u8::try_from(value.as_u64()?).ok()).collect();
    match (set.is_empty(), bytes.is_empty()) {
        (true, true) => "none".into(),
        (true, false) => hex(&bytes),
        (false, _) => set.join("+"),
    }
}
