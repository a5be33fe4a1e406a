//! What is wrong with a scenario file, in words that name the place and the remedy.

use crate::TEXT_LEN_MAX;

/// Characters of somebody's text that a message quotes at most.
const QUOTE_MAX: usize = 60;

/// Why a scenario cannot be run. Exit code 4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: {why}")]
    Read {
        /// Its name.
        file: String,
        /// What the system said.
        why: String,
    },
    /// It is larger than any story.
    #[error("{file}: {len} bytes; a scenario has at most {TEXT_LEN_MAX}")]
    TooLarge {
        /// Its name.
        file: String,
        /// Its size in bytes.
        len: usize,
    },
    /// A key that does not exist.
    #[error("{file}:{line}: there is no key `{key}` here; {hint}")]
    UnknownKey {
        /// The file's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The nearest known one, and all others.
        hint: String,
    },
    /// Not TOML, a value of another type, or one that cannot be.
    #[error("{file}:{line}: {why}")]
    Form {
        /// The file's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Values that cannot be.
    #[error("{file}: {why}")]
    Value {
        /// The file's name.
        file: String,
        /// What is wrong, with the key.
        why: String,
    },
}

impl ScenarioError {
    pub(crate) fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let (file, message) = (file.to_owned(), error.message());
        match unknown_key(message) {
            Some((key, known)) => {
                let hint = hint(&key, &known);
                Self::UnknownKey { file, line, key: quote(&key), hint }
            }
            None => {
                let first = message.lines().next().unwrap_or_default();
                Self::Form { file, line, why: one_line(first, 4 * QUOTE_MAX) }
            }
        }
    }
}

/// The line, from 1, in which a byte of the text lies.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// What a message quotes of somebody's text: not much, and without the power to look like more.
pub(crate) fn quote(text: &str) -> String {
    one_line(text, QUOTE_MAX)
}

/// The first characters of a text. A quoted key or name of a TOML file may hold line breaks and
/// what else moves a terminal's cursor.
pub(crate) fn one_line(text: &str, chars: usize) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(chars).map(plain).collect()
}

/// Takes serde's sentence apart: "unknown field `x`, expected one of `a`, `b`". The key is
/// somebody's and may say anything, also `, expected`: the last one counts.
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (key, known) = rest.rsplit_once("`, expected ")?;
    Some((key.to_owned(), known.split('`').skip(1).step_by(2).map(str::to_owned).collect()))
}

/// The nearest of `known`, if one is near, and all of them.
pub(crate) fn hint(key: &str, known: &[String]) -> String {
    // A name longer than any key is near to none, and dear to compare.
    let key: String = key.chars().take(QUOTE_MAX).collect();
    let all = known.join(", ");
    let distance = |candidate: &String| strsim::damerau_levenshtein(&key, candidate);
    match known.iter().min_by_key(|candidate| distance(candidate)) {
        Some(nearest) if distance(nearest) <= key.len().div_ceil(3) => {
            format!("did you mean `{nearest}`? (known: {all})")
        }
        Some(_) | None => format!("known: {all}"),
    }
}
