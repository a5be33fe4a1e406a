//! The cluster cookie: which texts are fit to be the secret that all nodes of a cluster share.
//!
//! Whoever knows the cookie is a member, and handshakes can be recorded and guessed at offline. So
//! a known or guessable cookie is refused at start, with the command that makes a good one.

use core::fmt::Write as _;

/// Least estimated strength, in bits.
pub const COOKIE_BITS_MIN: u32 = 128;
/// Longest cookie, in bytes.
pub const COOKIE_LEN_MAX: usize = 1_024;

/// What installations ship with or what tutorials type, in lower case.
const KNOWN: [&str; 28] = [
    "admin",
    "changeme",
    "changeit",
    "cluster",
    "cookie",
    "default",
    "ejabberd",
    "emqsecretcookie",
    "emqx",
    "emqxsecretcookie",
    "erlang",
    "erlangcookie",
    "lorawan",
    "lorawan-server",
    "monster",
    "monstercookie",
    "mycookie",
    "nocookie",
    "password",
    "public",
    "rabbitmq",
    "rabbitmqcookie",
    "secret",
    "secret7",
    "secretcookie",
    "tern",
    "test",
    "vernemq",
];

/// Why a cookie is refused, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// No text.
    #[error("the cluster cookie is empty: make one with `tern cluster cookie new`")]
    Empty,
    /// Everybody's first guess.
    #[error(
        "this cluster cookie is a published default that anybody would try first: make one with \
         `tern cluster cookie new` and give it to every node"
    )]
    Known,
    /// A control character, such as a line break in the middle.
    #[error(
        "the cluster cookie has a control character (a line break?): it is one line of text; make \
         one with `tern cluster cookie new`"
    )]
    Control,
    /// More than [`COOKIE_LEN_MAX`] bytes.
    #[error(
        "the cluster cookie has {0} bytes, at most {COOKIE_LEN_MAX} are taken: make one with \
         `tern cluster cookie new`"
    )]
    TooLong(usize),
    /// Guessable.
    #[error(
        "the cluster cookie is worth about {bits} bits, {COOKIE_BITS_MIN} are needed: make one \
         with `tern cluster cookie new` and give it to every node"
    )]
    Weak {
        /// The estimate.
        bits: u32,
    },
}

/// Says whether `text` may be the cookie of a cluster.
///
/// The text is judged as it stands: whoever reads it from a file strips the last line break.
pub fn judge_cookie(text: &str) -> Result<(), CookieError> {
    if text.trim().is_empty() {
        return Err(CookieError::Empty);
    }
    if text.len() > COOKIE_LEN_MAX {
        return Err(CookieError::TooLong(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(CookieError::Control);
    }
    if KNOWN.contains(&text.trim().to_lowercase().as_str()) {
        return Err(CookieError::Known);
    }
    match strength_bits(text) {
        bits if bits < COOKIE_BITS_MIN => Err(CookieError::Weak { bits }),
        _ => Ok(()),
    }
}

/// The cookie that 32 random bytes make: 64 hexadecimal digits.
pub fn cookie_from_random(random: [u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in random {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Estimated strength of a text, in bits.
///
/// Each character is worth log2 of the alphabet seen (10 digits, 26 small and 26 capital letters,
/// 33 signs, 16 if all are hexadecimal digits of one case), except that
/// * a letter of a word, but for its first, is worth two bits: four or more letters in a row, all
///   small behind the first or all capitals (so a word is worth about what a list of 2,048 words
///   gives it); hexadecimal digits make no words;
/// * nothing is worth the third and each further of characters that are equal or step up or down
///   by one, what repeats three characters seen earlier, and what separates (`-`, `_`, `:`, space).
pub fn strength_bits(text: &str) -> u32 {
    let chars: Vec<char> = text.chars().collect();
    let alphabet = alphabet_bits(&chars);
    let in_word = if alphabet == 4.0 { vec![false; chars.len()] } else { word_letters(&chars) };
    let worth = |at: usize| match (is_predictable(&chars, at), in_word[at]) {
        (true, _) => 0.0,
        (false, true) => 2.0_f64.min(alphabet),
        (false, false) => alphabet,
    };
    let bits: f64 = (0..chars.len()).map(worth).sum();
    // At most 1,024 characters of 7 bits, never negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = bits as u32;
    whole
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '_' | ':' | ' ')
}

fn alphabet_bits(chars: &[char]) -> f64 {
    let has = |class: fn(&char) -> bool| chars.iter().any(class);
    let digits = has(char::is_ascii_digit);
    let small = has(char::is_ascii_lowercase);
    let capital = has(char::is_ascii_uppercase);
    let signs = has(|c| !c.is_ascii_alphanumeric() && !is_separator(*c));
    let is_hex = |c: &char| c.is_ascii_hexdigit() || is_separator(*c);
    let size = if digits && small != capital && chars.iter().all(is_hex) {
        16
    } else {
        10 * u32::from(digits)
            + 26 * u32::from(small)
            + 26 * u32::from(capital)
            + 33 * u32::from(signs)
    };
    f64::from(size.max(1)).log2()
}

/// For each character, whether it continues a word.
fn word_letters(chars: &[char]) -> Vec<bool> {
    let mut marks = vec![false; chars.len()];
    let mut start = 0;
    while start < chars.len() {
        let run = |from: usize, class: fn(&char) -> bool| {
            chars[from..].iter().take_while(|c| class(c)).count()
        };
        let capitals = run(start, char::is_ascii_uppercase);
        let len = match capitals {
            0 => run(start, char::is_ascii_lowercase),
            1 => 1 + run(start + 1, char::is_ascii_lowercase),
            _ => capitals,
        };
        if len >= 4 {
            marks[start + 1..start + len].fill(true);
        }
        // The last of several capitals may begin a word of its own.
        start += if capitals > 1 && len < 4 { 1 } else { len.max(1) };
    }
    marks
}

fn is_predictable(chars: &[char], at: usize) -> bool {
    if is_separator(chars[at]) {
        return true;
    }
    let step = |at: usize| i64::from(u32::from(chars[at])) - i64::from(u32::from(chars[at - 1]));
    let steps = at >= 2 && step(at).abs() <= 1 && step(at) == step(at - 1);
    let seen = at >= 3 && {
        let three = &chars[at - 2..=at];
        chars[..at].windows(3).any(|earlier| earlier == three)
    };
    steps || seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Base64 without padding, as other tools make cookies.
    fn base64(bytes: &[u8]) -> String {
        const SIGNS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let mut word = [0_u8; 4];
            word[1..=group.len()].copy_from_slice(group);
            let word = u32::from_be_bytes(word);
            for position in 0..=group.len() {
                let index = (word >> (18 - 6 * position)) & 0x3F;
                text.push(char::from(SIGNS[index as usize]));
            }
        }
        text
    }

    proptest! {
        #[test]
        fn thirty_two_random_bytes_are_a_cookie(random: [u8; 32]) {
            let hex = cookie_from_random(random);
            prop_assert_eq!(judge_cookie(&hex), Ok(()), "{}", hex);
            prop_assert_eq!(judge_cookie(&hex.to_uppercase()), Ok(()));
            let text = base64(&random);
            prop_assert_eq!(judge_cookie(&text), Ok(()), "{}", text);
        }

        #[test]
        fn any_text_is_judged(text: String) {
            let _ = judge_cookie(&text);
        }
    }

    #[test]
    fn known_defaults_are_called_by_their_name() {
        let typed = ["emqsecretcookie", "EMQSecretCookie", "monster", " secret ", "cookie"];
        for text in typed.iter().chain(&KNOWN) {
            assert_eq!(judge_cookie(text), Err(CookieError::Known), "{text:?}");
        }
    }

    #[test]
    fn guessable_cookies_are_refused() {
        let table = [
            "correct horse battery staple",
            "CorrectHorseBatteryStaple",
            "CORRECT-HORSE-BATTERY-STAPLE-2026!",
            "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "emqsecretcookieemqsecretcookieemqsecretcookieemqsecretcookie",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "Tr0ub4dor&3",
            "12345678901234567890123456789012345678901234567890",
            "äöüäöüäöüäöü",
            // 15 random bytes in hexadecimal: 120 bits.
            "9f86d081884c7d659a2feaa0c55ad0",
        ];
        for text in table {
            let verdict = judge_cookie(text);
            assert!(matches!(verdict, Err(CookieError::Weak { .. })), "{text:?}: {verdict:?}");
        }
    }

    #[test]
    fn what_is_no_line_of_text_is_refused() {
        assert_eq!(judge_cookie(""), Err(CookieError::Empty));
        assert_eq!(judge_cookie(" \n"), Err(CookieError::Empty));
        assert_eq!(judge_cookie("a\nb"), Err(CookieError::Control));
        assert_eq!(judge_cookie(&"x".repeat(1_025)), Err(CookieError::TooLong(1_025)));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        use CookieError::{Control, Empty, Known, TooLong, Weak};
        for error in [Empty, Known, Control, TooLong(2_000), Weak { bits: 12 }] {
            assert!(error.to_string().contains("`tern cluster cookie new`"), "{error}");
        }
    }
}
