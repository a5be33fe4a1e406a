//! Printing: aligned tables for people, JSON for programs, colours only on a terminal.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::CliError;

/// Where answers go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    /// JSON instead of tables.
    pub(super) json: bool,
    is_terminal: bool,
}

/// A colour of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Green,
    Red,
    Dim,
}

impl Out {
    /// Standard output.
    pub(super) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none();
        Self { json, is_terminal: io::stdout().is_terminal() && wanted }
    }

    /// One line.
    pub(super) fn line(&self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        // A reader that has gone, like `head`, has seen enough.
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| CliError::Closed)
    }

    /// A text in a colour, if there are colours.
    pub(super) fn paint(&self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Plain => return text.to_owned(),
            Colour::Green => "32",
            Colour::Red => "31",
            Colour::Dim => "2",
        };
        if self.is_terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What was done, for people; for programs the answer itself.
    pub(super) fn done(&self, text: &str, answer: &Value) -> Result<(), CliError> {
        if self.json { self.line(&answer.to_string()) } else { self.line(text) }
    }

    /// A list: JSON, or a table of some of its fields.
    pub(super) fn list(&self, answer: &Value, columns: &[(&str, &str)]) -> Result<(), CliError> {
        if self.json {
            return self.line(&answer.to_string());
        }
        let items = answer["result"].as_array().cloned().unwrap_or_default();
        for line in table(columns, &items) {
            self.line(&line)?;
        }
        let total = answer["totalCount"].as_u64().unwrap_or(0);
        let shown = u64::try_from(items.len()).unwrap_or(0);
        if total > shown {
            self.line(&format!("{shown} of {total}: see --limit, --offset, --search"))?;
        }
        Ok(())
    }

    /// One object: JSON, or its fields one below the other.
    pub(super) fn object(&self, answer: &Value) -> Result<(), CliError> {
        if self.json {
            return self.line(&answer.to_string());
        }
        let rows = fields_of(answer);
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, text) in rows {
            self.line(&format!("{name:<width$}  {text}"))?;
        }
        Ok(())
    }
}

/// The lines of a table, its columns as wide as need be.
pub(super) fn table(columns: &[(&str, &str)], items: &[Value]) -> Vec<String> {
    let mut rows = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>()];
    for item in items {
        rows.push(columns.iter().map(|(_, path)| cell(item.pointer(path))).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// A value in a table: control characters of strangers do not reach the terminal.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(value @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => value.to_string(),
    }
}

/// Text without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}

/// The fields of an answer by name. An object wrapped in its own name beside its times is what was
/// asked for: its name says nothing.
fn fields_of(answer: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let fields = answer.as_object().map(|fields| fields.iter().collect::<Vec<_>>());
    for (name, value) in fields.unwrap_or_default() {
        let is_wrapper = matches!(
            name.as_str(),
            "tenant"
                | "user"
                | "application"
                | "deviceProfile"
                | "device"
                | "deviceKeys"
                | "deviceActivation"
                | "gateway"
        );
        flatten(if is_wrapper { "" } else { name }, value, &mut rows);
    }
    rows
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let join = |name: &str| match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&join(name), value, rows);
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            let items: Vec<_> = items.iter().map(|item| cell(Some(item))).collect();
            rows.push((prefix.to_owned(), items.join(", ")));
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                flatten(&join(&number.to_string()), item, rows);
            }
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            rows.push((prefix.to_owned(), cell(Some(plain))));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_clean() {
        let items = [
            json!({"name": "a", "on": true, "inner": {"n": 5}}),
            json!({"name": "longer\u{1b}[2J", "on": false, "inner": {}}),
        ];
        let lines = table(&[("NAME", "/name"), ("ON", "/on"), ("N", "/inner/n")], &items);
        let expected = ["NAME        ON   N", "a           yes  5", "longer\u{FFFD}[2J  no   -"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_object_is_flattened() {
        let answer = json!({"device": {"devEui": "1", "tags": {"a": "b"}}, "createdAt": null});
        let rows = fields_of(&answer);
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(rows, [pair("createdAt", "-"), pair("devEui", "1"), pair("tags.a", "b")]);
    }
}
