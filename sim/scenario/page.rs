//! The JSON schema of scenario files and the page that explains every key, both out of the
//! comments of the types, so that neither says anything else than the parser does.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::{FaultKind, Scenario};

/// What opens the page.
const HEAD: &str = "# Every key of a scenario

A scenario is one story: a TOML file in this folder, run with
`cargo sim scenarios/NAME.toml --seed 7`.
Begin it with a comment that tells the story: who does what, what goes wrong, what must hold.
Durations are written `200us`, `1.5s`, `2m`, `1h`, a day at most; where a range is allowed,
`20s..80s`, a value is drawn from it for each seed. Shares are probabilities, 0 to 1. Editors that
know JSON schemas complete keys if the file begins with `#:schema ./schema.json`.

This page and `schema.json` are made from the parser's own types
(`UPDATE=1 cargo test -p scenario`).
";

/// The JSON schema.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<Scenario>().to_value()
}

/// The page, in Markdown.
pub fn markdown() -> String {
    let schema = schema();
    let mut page = HEAD.to_owned();
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&none);
    heading(&mut page, "At the top", &schema);
    table(&mut page, &schema, definitions, None);
    let tables = schema["properties"].as_object().unwrap_or(&none);
    for (key, value) in tables {
        let (name, is_list) = match definition(value) {
            Some(name) => (name, false),
            None => match definition(&value["items"]) {
                Some(name) => (name, true),
                None => continue,
            },
        };
        let Some(fields) = definitions.get(name).filter(|found| found["properties"].is_object())
        else {
            continue;
        };
        let title = if is_list { format!("`[[{key}]]`") } else { format!("`[{key}]`") };
        heading(&mut page, &title, value);
        let defaults = value["default"].as_object();
        table(&mut page, fields, definitions, defaults);
        if key == "fault" {
            kinds(&mut page, definitions);
        }
    }
    page
}

fn heading(page: &mut String, title: &str, described: &Value) {
    let text = described["description"].as_str().unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {title}\n\n{}\n\n", one_line(text));
}

fn table(
    page: &mut String,
    fields: &Value,
    definitions: &Map<String, Value>,
    defaults: Option<&Map<String, Value>>,
) {
    let _ = writeln!(page, "| key | value | default | meaning |\n|---|---|---|---|");
    let none = Map::new();
    let needed: Vec<&str> =
        fields["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, field) in fields["properties"].as_object().unwrap_or(&none) {
        let is_table = definition(field)
            .or_else(|| definition(&field["items"]))
            .and_then(|name| definitions.get(name))
            .is_some_and(|found| found["properties"].is_object());
        if is_table {
            continue;
        }
        let default = defaults.and_then(|all| all.get(key)).or_else(|| field.get("default"));
        let default = match default {
            Some(Value::Null) | None if needed.contains(&key.as_str()) => "needed".to_owned(),
            Some(Value::Null) | None => "none".to_owned(),
            Some(value) => format!("`{}`", value.to_string().trim_matches('"')),
        };
        let meaning = one_line(field["description"].as_str().unwrap_or_default());
        let _ = writeln!(page, "| `{key}` | {} | {default} | {meaning} |", kind_of(field));
    }
}

/// What a value is, in a word or two.
fn kind_of(field: &Value) -> String {
    let alternatives = field["anyOf"].as_array();
    let field = alternatives.and_then(|all| all.first()).unwrap_or(field);
    if let Some(name) = definition(field) {
        return match name {
            "Duration" => "duration",
            "DurationOrRange" => "duration or range",
            "NumberOrRange" => "number or range",
            "Share" => "share",
            "FaultKind" => "kind, below",
            "Promise" => "`delivery`, `ack`, `join_accept`, `downlink`, `answer`",
            "Shape" => "`split`, `isolate`, `one_way`, `bridge`, `ring`, `majority_ring`",
            "Reach" => "`nodes`, `sites`, `everything`",
            "DeviceVersion" => "`1.0.3` or `1.0.4`",
            other => other,
        }
        .to_owned();
    }
    let kind = &field["type"];
    let kind = kind.as_array().and_then(|kinds| kinds.first()).unwrap_or(kind);
    match kind.as_str().unwrap_or_default() {
        "integer" | "number" => "number",
        "string" => "text",
        "boolean" => "true or false",
        "array" => "list",
        _ => "",
    }
    .to_owned()
}

fn kinds(page: &mut String, definitions: &Map<String, Value>) {
    let _ = write!(
        page,
        "\n### Kinds of faults\n\nEvery kind takes `name`, `at`, `chance` and `times`.\n\n\
         | kind | what happens | needs | may have |\n|---|---|---|---|\n"
    );
    let told = definitions.get("FaultKind").map(|kinds| &kinds["oneOf"]);
    for kind in FaultKind::ALL {
        let name = kind.to_string();
        let all = told.and_then(Value::as_array).into_iter().flatten();
        let mut found = all.filter(|one| one["const"] == Value::String(name.clone()));
        let text = found.next().and_then(|one| one["description"].as_str()).unwrap_or_default();
        let (needed, allowed) = kind.keys();
        let list = |keys: &[crate::Key]| {
            keys.iter().map(|key| format!("`{}`", key.name())).collect::<Vec<_>>().join(", ")
        };
        let (needed, allowed) = (list(needed), list(allowed));
        let _ = writeln!(page, "| `{name}` | {} | {needed} | {allowed} |", one_line(text));
    }
    words(page, "Shapes of partitions", &definitions["Shape"]);
    words(page, "The reach of a partition", &definitions["Reach"]);
}

/// The words that a key may have, each with its meaning.
fn words(page: &mut String, title: &str, definition: &Value) {
    let _ = write!(page, "\n### {title}\n\n| word | meaning |\n|---|---|\n");
    for one in definition["oneOf"].as_array().into_iter().flatten() {
        let word = one["const"].as_str().unwrap_or_default();
        let meaning = one_line(one["description"].as_str().unwrap_or_default());
        let _ = writeln!(page, "| `{word}` | {meaning} |");
    }
}

/// The name of the definition that a value refers to.
fn definition(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_page_and_schema_are_those_of_the_parser() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
        let pretty = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        for (file, made) in [("KEYS.md", markdown()), ("schema.json", pretty)] {
            let path = folder.join(file);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &made).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == made, "{file} is old: UPDATE=1 cargo test -p scenario");
        }
    }

    #[test]
    fn every_key_and_kind_is_explained() {
        let page = markdown();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let rows: Vec<&str> = rows.filter(|line| line.matches('|').count() > 3).collect();
        assert!(rows.len() > 100, "{} rows", rows.len());
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert!(cells[2].len() > 2, "says nothing of it: {row}");
            assert!(cells.len() >= 6, "{row}");
        }
        for kind in FaultKind::ALL {
            assert!(page.contains(&format!("| `{kind}` | ")), "{kind}");
        }
    }
}
