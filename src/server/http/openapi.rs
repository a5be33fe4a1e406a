//! The description of the API as OpenAPI 3.0, made from the route table: what is routed is
//! described.

use serde_json::{Map, Value, json};

use super::route::{Form, Route};

/// The document.
pub(super) fn document(routes: &[&Route]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.name()] = operation(route);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Tern",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Wherever an identifier is asked a unique name does as well; EUIs are \
                taken with dashes, colons or spaces. Lists give at most 1,000 items.",
        },
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{"bearer": []}],
        "paths": paths,
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> =
        names_in(route.path).map(|name| parameter(name, "path", true)).collect();
    parameters.extend(route.query.iter().map(|name| parameter(name, "query", false)));
    let content_type = match route.form {
        Form::Metrics => "text/plain",
        Form::EventStream | Form::WatchStream => "application/x-ndjson",
        Form::Json | Form::Events | Form::Servers | Form::Health | Form::OpenApi => {
            "application/json"
        }
    };
    let answer = json!({
        "description": "Done.",
        "content": {content_type: {"schema": schema(&(route.response)())}},
    });
    let error = json!({
        "description": "Not done: code, message, details.",
        "content": {"application/json": {"schema": {"type": "object", "properties": {
            "code": {"type": "integer"}, "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        }}}},
    });
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "tags": [tag(route.path)],
        "parameters": parameters,
        "responses": {"200": answer, "default": error},
    });
    if let Some(request) = route.request {
        operation["requestBody"] =
            json!({"content": {"application/json": {"schema": schema(&request())}}});
    }
    if route.is_public {
        operation["security"] = json!([]);
    }
    operation
}

fn parameter(name: &str, place: &str, required: bool) -> Value {
    json!({"name": name, "in": place, "required": required, "schema": {"type": "string"}})
}

/// The names in braces of a path.
pub(super) fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn tag(path: &str) -> &str {
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "api" | "v1" | "internal"));
    parts.next().unwrap_or("node")
}

fn operation_id(route: &Route) -> String {
    let parts = route.path.split(['/', '-']).filter(|part| !part.is_empty() && *part != "api");
    let mut id = route.verb.name().to_owned();
    for part in parts {
        let part = part.trim_matches(['{', '}']).replace('.', "");
        let mut letters = part.chars();
        id.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        id.push_str(letters.as_str());
    }
    id
}

/// The form of an example.
fn schema(example: &Value) -> Value {
    match example {
        Value::Null => json!({"nullable": true}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(items) => {
            json!({"type": "array", "items": items.first().map_or(json!({}), schema)})
        }
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), schema(value))).collect();
            json!({"type": "object", "properties": fields})
        }
    }
}
