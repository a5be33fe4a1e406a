//! Topic names and topic filters, validated once.
//!
//! A name says where a message goes, a filter which names a subscriber wants. Levels are parted by
//! `/` and may be empty. Limits are ours, because a filter's cost is paid at every publish.
//! Source: MQTT 5.0 §4.7 (names, filters, wildcards, `$`), §4.8.2 (shared subscriptions).

use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use crate::ReasonCode;

/// Longest name or filter, in bytes.
pub const MAX_TOPIC_BYTES: usize = 4_096;
/// Most levels of a topic name.
pub const MAX_NAME_LEVELS: usize = 128;
/// Most levels of a topic filter.
pub const MAX_FILTER_LEVELS: usize = 16;
/// Most wildcards (`+` and `#`) of a topic filter.
pub const MAX_WILDCARDS: usize = 8;
/// Longest group name of a shared subscription, in bytes.
pub const MAX_GROUP_BYTES: usize = 128;

const SHARE_PREFIX: &str = "$share/";

/// Why a text is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Zero bytes long.
    #[error("a topic is at least one character long")]
    Empty,
    /// Longer than [`MAX_TOPIC_BYTES`].
    #[error("a topic of {bytes} bytes is longer than {MAX_TOPIC_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// U+0000 inside.
    #[error("a topic has no character U+0000")]
    Nul,
    /// More levels than allowed.
    #[error("a topic of {levels} levels is deeper than {limit}")]
    TooDeep {
        /// Its levels.
        levels: usize,
        /// What is allowed.
        limit: usize,
    },
    /// `+` or `#` in a topic name.
    #[error("a topic name has no wildcard")]
    WildcardInName,
    /// `+` that does not fill its level, `#` that does not, or `#` before the last level.
    #[error("a wildcard fills its level, and # is the last one")]
    WildcardMisplaced,
    /// More wildcards than [`MAX_WILDCARDS`].
    #[error("a filter of {wildcards} wildcards has more than {MAX_WILDCARDS}")]
    TooManyWildcards {
        /// Its wildcards.
        wildcards: usize,
    },
    /// `$share/` without a proper group name or without a filter.
    #[error("a shared subscription is $share/{{group}}/{{filter}}")]
    ShareGroup,
}

impl TopicError {
    /// The reason code for a SUBACK: invalid, or above a limit of ours.
    pub const fn suback_reason(self) -> ReasonCode {
        match self {
            Self::TooLong { .. } | Self::TooDeep { .. } | Self::TooManyWildcards { .. } => {
                ReasonCode::QuotaExceeded
            }
            Self::Empty
            | Self::Nul
            | Self::WildcardInName
            | Self::WildcardMisplaced
            | Self::ShareGroup => ReasonCode::TopicFilterInvalid,
        }
    }

    /// Name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "topic_empty",
            Self::TooLong { .. } => "topic_too_long",
            Self::Nul => "topic_nul",
            Self::TooDeep { .. } => "topic_too_deep",
            Self::WildcardInName => "topic_wildcard_in_name",
            Self::WildcardMisplaced => "topic_wildcard_misplaced",
            Self::TooManyWildcards { .. } => "topic_too_many_wildcards",
            Self::ShareGroup => "topic_share_group",
        }
    }
}

fn check_text(text: &str, max_levels: usize) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    let levels = text.split('/').count();
    if levels > max_levels {
        return Err(TopicError::TooDeep { levels, limit: max_levels });
    }
    Ok(())
}

/// A topic name: no wildcards, at least one character. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks and keeps a name.
    ///
    /// * Errors: [`TopicError`], what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text, MAX_NAME_LEVELS)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text.into()))
    }

    /// As on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels, at least one, perhaps empty.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it begins with `$`, so that wildcards at a filter's root do not match it.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

/// A topic filter without `$share/`: wildcards well placed, within our limits. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks and keeps a filter. A text that begins with `$share/` is a [`Subscription`] instead.
    ///
    /// * Errors: [`TopicError`], what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text, MAX_FILTER_LEVELS)?;
        if text.starts_with(SHARE_PREFIX) || text == "$share" {
            return Err(TopicError::ShareGroup);
        }
        let mut wildcards = 0;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if !level.contains(['+', '#']) {
                continue;
            }
            let last = levels.peek().is_none();
            if level != "+" && !(level == "#" && last) {
                return Err(TopicError::WildcardMisplaced);
            }
            wildcards += 1;
        }
        if wildcards > MAX_WILDCARDS {
            return Err(TopicError::TooManyWildcards { wildcards });
        }
        Ok(Self(text.into()))
    }

    /// As on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels, at least one, perhaps empty.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it has a `+` or a `#`; without one it matches exactly the name it spells.
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether `name` is wanted, level by level. The index answers the same for many filters at
    /// once and is tested against this.
    pub fn matches(&self, name: &TopicName) -> bool {
        let mut wanted = self.levels();
        let mut given = name.levels();
        let mut root = true;
        loop {
            // A wildcard at the root does not reach into `$SYS` and its like (§4.7.2).
            let hidden = root && name.is_system();
            root = false;
            match (wanted.next(), given.next()) {
                // `a/#` also wants `a` itself.
                (Some("#"), _) => return !hidden,
                (Some("+"), Some(_)) if !hidden => {}
                (Some(wanted), Some(given)) if wanted == given => {}
                (None, None) => return true,
                (None | Some(_), None | Some(_)) => return false,
            }
        }
    }
}

impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a client asks for in SUBSCRIBE: a filter, alone or shared within a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// The group among whose members each message goes to one; `None`: not shared.
    pub group: Option<Arc<str>>,
    /// Which names.
    pub filter: TopicFilter,
}

impl Subscription {
    /// Reads `{filter}` or `$share/{group}/{filter}`.
    ///
    /// * Errors: [`TopicError`], what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let Some(shared) = text.strip_prefix(SHARE_PREFIX) else {
            return Ok(Self { group: None, filter: TopicFilter::parse(text)? });
        };
        let (group, filter) = shared.split_once('/').ok_or(TopicError::ShareGroup)?;
        let plain = !group.is_empty() && !group.contains(['+', '#', '\0']);
        if !plain || group.len() > MAX_GROUP_BYTES || filter.is_empty() {
            return Err(TopicError::ShareGroup);
        }
        Ok(Self { group: Some(group.into()), filter: TopicFilter::parse(filter)? })
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{SHARE_PREFIX}{group}/{}", self.filter),
            None => self.filter.fmt(f),
        }
    }
}

impl FromStr for TopicName {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

impl FromStr for TopicFilter {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

impl FromStr for Subscription {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName {
        text.parse().unwrap()
    }

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(MAX_TOPIC_BYTES + 1);
        let deep = "/".repeat(MAX_NAME_LEVELS);
        let table = [
            ("", TopicError::Empty),
            ("a\0b", TopicError::Nul),
            ("a/+/b", TopicError::WildcardInName),
            ("a/b#", TopicError::WildcardInName),
            (&long, TopicError::TooLong { bytes: MAX_TOPIC_BYTES + 1 }),
            (&deep, TopicError::TooDeep { levels: 129, limit: 128 }),
        ];
        for (text, error) in table {
            assert_eq!(TopicName::parse(text), Err(error), "{text:?}");
        }
        for text in ["/", "a//b", "$SYS/x", " ", "\u{feff}a", &"/".repeat(127)] {
            assert_eq!(TopicName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn hostile_filters_are_refused() {
        let deep = "a/".repeat(16) + "a";
        let wild = "+/".repeat(8) + "#";
        let table = [
            ("", TopicError::Empty),
            ("\0", TopicError::Nul),
            ("a/#/b", TopicError::WildcardMisplaced),
            ("a#", TopicError::WildcardMisplaced),
            ("##", TopicError::WildcardMisplaced),
            ("a/b+", TopicError::WildcardMisplaced),
            ("++/a", TopicError::WildcardMisplaced),
            ("$share/g/a", TopicError::ShareGroup),
            (&deep, TopicError::TooDeep { levels: 17, limit: 16 }),
            (&wild, TopicError::TooManyWildcards { wildcards: 9 }),
        ];
        for (text, error) in table {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text:?}");
        }
        for text in ["#", "+", "/", "+/+", "a/+/#", "/+", "$SYS/#", "a//b"] {
            assert_eq!(filter(text).as_str(), text);
        }
    }

    #[test]
    fn shared_subscriptions_are_parted() {
        let shared = Subscription::parse("$share/workers/a/+/#").unwrap();
        assert_eq!(shared.group.as_deref(), Some("workers"));
        assert_eq!(shared.filter, filter("a/+/#"));
        assert_eq!(shared.to_string(), "$share/workers/a/+/#");
        let plain = Subscription::parse("a/b").unwrap();
        assert_eq!((plain.group.is_none(), plain.to_string().as_str()), (true, "a/b"));
        let group = "g".repeat(MAX_GROUP_BYTES + 1);
        for text in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/g#/a",
            "$share/g/$share/h/a",
            &format!("$share/{group}/a"),
        ] {
            assert_eq!(Subscription::parse(text), Err(TopicError::ShareGroup), "{text:?}");
        }
    }

    #[test]
    fn matching_follows_the_specification() {
        let yes = [
            ("sport/tennis/#", "sport/tennis"),
            ("sport/tennis/#", "sport/tennis/a/b"),
            ("sport/#", "sport"),
            ("#", "a/b/c"),
            ("#", "/"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+", "a"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/+/b", "$SYS/a/b"),
            ("a/+/c", "a//c"),
            ("a/#", "a/$x"),
        ];
        for (wanted, given) in yes {
            assert!(filter(wanted).matches(&name(given)), "{wanted} wants {given}");
        }
        let no = [
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/a"),
            ("+/a", "$SYS/a"),
            ("+", "$SYS"),
            ("a/b", "a/b/c"),
            ("a/b/c", "a/b"),
            ("a/B", "a/b"),
            ("a/#", "ab"),
        ];
        for (wanted, given) in no {
            assert!(!filter(wanted).matches(&name(given)), "{wanted} does not want {given}");
        }
    }
}
