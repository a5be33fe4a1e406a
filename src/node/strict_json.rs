//! JSON from strangers: bounded in length and depth, no duplicate keys, no byte order mark.
//!
//! A duplicate key means that two readers may see two different messages; such a text is refused.

use core::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a text is not taken as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than this use allows.
    #[error("{seen} bytes, at most {max} are taken")]
    TooLong {
        /// Bytes given.
        seen: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not JSON, or JSON that nests too deep or says a thing twice.
    #[error("{0}")]
    Syntax(String),
}

impl JsonError {
    /// The name under which it is counted.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Syntax(_) => "syntax",
        }
    }
}

/// Reads a JSON text.
///
/// * `bytes_max`: longest text taken.
/// * `depth_max`: deepest nesting taken; a bare number has depth 0, `{}` has 1.
/// * Errors: [`JsonError`].
pub fn parse(bytes: &[u8], bytes_max: usize, depth_max: usize) -> Result<Value, JsonError> {
    if bytes.len() > bytes_max {
        return Err(JsonError::TooLong { seen: bytes.len(), max: bytes_max });
    }
    let syntax = |error: serde_json::Error| JsonError::Syntax(error.to_string());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: depth_max }.deserialize(&mut reader).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1);
        let depth_left = depth_left.ok_or_else(|| E::custom("it nests too deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if object.contains_key(&key) {
                let key: String = key.chars().take(40).collect();
                return Err(de::Error::custom(format!("the key `{key}` is there twice")));
            }
            object.insert(key, fields.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_reads_as_it_is() {
        let text = br#"{"a":[1,-2,3.5,"x\u00e9",null,true],"b":{"c":18446744073709551615}}"#;
        let value = parse(text, 100, 2).unwrap();
        assert_eq!(value, serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        for text in [
            &b""[..],
            b"{",
            b"\xEF\xBB\xBF{}",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":1,\"\\u0061\":2}",
            b"{\"x\":{\"a\":1,\"a\":2}}",
            b"NaN",
            b"{\"a\":NaN}",
            b"1e999",
            b"\"\xFF\"",
            b"\"\\ud800\"",
            b"{} x",
            b"[[[[[]]]]]",
            b"{'a':1}",
            &deep,
        ] {
            assert!(parse(text, 1 << 20, 4).is_err(), "{:?}", &text[..text.len().min(30)]);
        }
        let long = parse(b"[1,2,3]", 6, 4);
        assert_eq!(long, Err(JsonError::TooLong { seen: 7, max: 6 }));
        assert!(parse(b"[[[[]]]]", 10, 4).is_ok());
    }
}
