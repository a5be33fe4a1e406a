//! The keys a person gives to have a frame explained: `nwkSKey=..`, `app_s_key=..`, any of them.

use lorawan::{Key, ParseIdError};

/// Why a text is not a list of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeysError {
    /// No `=`.
    #[error("write NAME=KEY, for instance nwk_s_key=000102030405060708090a0b0c0d0e0f")]
    Shape,
    /// A key of another name.
    #[error("`{0}` names no key; there are {known}", known = known_names())]
    Name(String),
    /// Not a key.
    #[error("{name}")]
    Key {
        /// Whose.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: ParseIdError,
    },
}

/// Keys by name, each optional.
#[derive(Clone, Debug, Default)]
pub struct FrameKeys {
    /// NwkKey of 1.1; the AppKey of 1.0.x may be given as this or as `app_key`.
    pub nwk_key: Option<Key>,
    /// AppKey.
    pub app_key: Option<Key>,
    /// NwkSKey of 1.0.x.
    pub nwk_s_key: Option<Key>,
    /// AppSKey.
    pub app_s_key: Option<Key>,
    /// FNwkSIntKey of 1.1.
    pub f_nwk_s_int_key: Option<Key>,
    /// SNwkSIntKey of 1.1.
    pub s_nwk_s_int_key: Option<Key>,
    /// NwkSEncKey of 1.1.
    pub nwk_s_enc_key: Option<Key>,
    /// JSIntKey of 1.1; also derived from NwkKey and DevEUI.
    pub js_int_key: Option<Key>,
    /// JSEncKey of 1.1; also derived from NwkKey and DevEUI.
    pub js_enc_key: Option<Key>,
}

const NAMES: [&str; 9] = [
    "nwk_key",
    "app_key",
    "nwk_s_key",
    "app_s_key",
    "f_nwk_s_int_key",
    "s_nwk_s_int_key",
    "nwk_s_enc_key",
    "js_int_key",
    "js_enc_key",
];

fn known_names() -> String {
    NAMES.join(", ")
}

/// Letters alone, in lower case: `NwkSKey`, `nwk_s_key` and `nwk-s-key` are one name.
fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl FrameKeys {
    /// Reads `NAME=KEY` entries; commas may join several into one.
    ///
    /// * Errors: [`ParseKeysError`], which never shows a key.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, ParseKeysError> {
        let mut keys = Self::default();
        for entry in entries.into_iter().flat_map(|entry| entry.split(',')) {
            if entry.trim().is_empty() {
                continue;
            }
            let (name, key) = entry.split_once('=').ok_or(ParseKeysError::Shape)?;
            let unknown = || ParseKeysError::Name(name.trim().chars().take(32).collect());
            let name = NAMES
                .into_iter()
                .find(|known| folded(known) == folded(name))
                .ok_or_else(unknown)?;
            let key = key.parse().map_err(|source| ParseKeysError::Key { name, source })?;
            *keys.place(name).ok_or_else(unknown)? = Some(key);
        }
        Ok(keys)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<Key>> {
        Some(match name {
            "nwk_key" => &mut self.nwk_key,
            "app_key" => &mut self.app_key,
            "nwk_s_key" => &mut self.nwk_s_key,
            "app_s_key" => &mut self.app_s_key,
            "f_nwk_s_int_key" => &mut self.f_nwk_s_int_key,
            "s_nwk_s_int_key" => &mut self.s_nwk_s_int_key,
            "nwk_s_enc_key" => &mut self.nwk_s_enc_key,
            "js_int_key" => &mut self.js_int_key,
            "js_enc_key" => &mut self.js_enc_key,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn every_name_has_its_place_however_it_is_written() {
        for name in NAMES {
            let keys = FrameKeys::parse([format!("{name}={KEY}").as_str()]).unwrap();
            let text = format!("{keys:?}");
            assert_eq!(text.matches("Some(Key(..))").count(), 1, "{text}");
            assert!(text.contains(&format!("{name}: Some")), "{text}");
        }
        let keys = FrameKeys::parse([format!("NwkSKey={KEY},appSKey={KEY}").as_str(), ""]).unwrap();
        assert!(keys.nwk_s_key.is_some() && keys.app_s_key.is_some());
    }

    #[test]
    fn what_is_no_key_is_named_but_not_shown() {
        let error = |text| FrameKeys::parse([text]).unwrap_err();
        assert_eq!(error(KEY), ParseKeysError::Shape);
        assert_eq!(error("key=00"), ParseKeysError::Name("key".into()));
        let source = ParseIdError::Length { seen: 2, wanted: 32 };
        assert_eq!(error("app_key=00"), ParseKeysError::Key { name: "app_key", source });
    }
}
