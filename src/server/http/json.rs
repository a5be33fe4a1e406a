//! Bodies as protobuf JSON readers take them: either spelling of a name, null means unset.

use node::api::ApiError;
use node::strict_json;
use serde_json::{Map, Value};

/// Deepest nesting of a body.
const DEPTH_MAX: usize = 32;
/// Fields whose own keys are data, not names.
const MAPS: [&str; 5] = ["tags", "variables", "metadata", "properties", "object"];

/// Reads a body; an empty one is `{}`.
///
/// * Errors: not a JSON object, too deep, a key twice.
pub(super) fn parse_body(bytes: &[u8], bytes_max: usize) -> Result<Map<String, Value>, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let value = strict_json::parse(bytes, bytes_max, DEPTH_MAX)
        .map_err(|error| ApiError::invalid("body", error.to_string()))?;
    let Value::Object(object) = value else {
        return Err(ApiError::invalid("body", "a JSON object is needed"));
    };
    camel_object(object)
}

fn camel_object(object: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut camel = Map::new();
    for (key, value) in object {
        if value.is_null() {
            continue;
        }
        let key = camel_name(&key);
        let value = if MAPS.contains(&key.as_str()) { value } else { camel_value(value)? };
        if camel.contains_key(&key) {
            return Err(ApiError::invalid(&key, "this is there twice, in two spellings"));
        }
        camel.insert(key, value);
    }
    Ok(camel)
}

fn camel_value(value: Value) -> Result<Value, ApiError> {
    Ok(match value {
        Value::Object(object) => Value::Object(camel_object(object)?),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(camel_value).collect::<Result<_, _>>()?)
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    })
}

/// `dev_eui` and `devEui` are one name.
pub(super) fn camel_name(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        if character == '_' {
            upper = true;
        } else if upper {
            camel.extend(character.to_uppercase());
            upper = false;
        } else {
            camel.push(character);
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_and_tags_stay_as_they_are() {
        let body = br#"{"queue_item":{"dev_eui":"1","f_port":2,"expires_at":null},
            "tags":{"room_no":"5"},"list":[{"a_b":1}]}"#;
        let camel = Value::Object(parse_body(body, 1_000).unwrap());
        let expected = serde_json::json!({"queueItem": {"devEui": "1", "fPort": 2},
            "tags": {"room_no": "5"}, "list": [{"aB": 1}]});
        assert_eq!(camel, expected);
        assert_eq!(camel_name("nwk_s_enc_key"), "nwkSEncKey");
        assert_eq!(camel_name("get_next_f_cnt_down"), "getNextFCntDown");
        assert!(parse_body(b"  \n", 10).unwrap().is_empty());
        for hostile in [&b"[]"[..], b"1", b"{\"a\":1,\"a\":2}", b"{\"a_b\":1,\"aB\":2}", b"{"] {
            assert!(parse_body(hostile, 1_000).is_err());
        }
    }
}
