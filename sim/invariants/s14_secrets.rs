//! S14, secrets never in clear: a scanner that knows every secret of the world and looks for it in
//! whatever leaves a node: datagrams, streams, bytes for the disk, log lines, panics.
//!
//! Source: requirements, part G, S14. Fed with bytes, not with facts. A secret is looked for as it
//! is, reversed (an EUI's order is easily mistaken for a key's), in hexadecimal of either case, and
//! in both base64 alphabets at all three alignments.
//!
//! In clear on purpose, and so not shown to the scanner: answers of the API, which the simulator
//! takes from the node's own host; and an MQTT password on its way to the node, which its client
//! sends.
//!
//! Thousands of session keys arise in a run, so an automaton would be built anew all the time. Here
//! every form of a secret is at least [`FORM_LEN_MIN`] bytes long: wherever it lies, eight bytes of
//! it begin at a multiple of eight. Those are looked up, behind a bitmap that most of them fail: an
//! eighth of a lookup a byte, and a new secret costs a few hundred insertions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Violation;

/// Bytes looked up at a time, and how far apart.
const WINDOW: usize = 8;
/// Shortest form of a secret: any shorter one could lie between two lookups.
const FORM_LEN_MIN: usize = 2 * WINDOW - 1;
/// Longest secret: a key of 256 bits.
const SECRET_LEN_MAX: usize = 32;
/// Bytes of a channel kept for what lies across two of its chunks: one less than the longest form.
const TAIL_LEN: usize = 2 * SECRET_LEN_MAX - 1;
/// Bits of the bitmap for each window in it; more than this share would let too many pass.
const BITS_PER_WINDOW: usize = 16;
/// Channels whose last bytes are kept; with one more, some other one's are forgotten.
const TAILS_MAX: usize = 4_096;

/// One form of one secret.
#[derive(Debug)]
struct Form {
    secret: String,
    name: &'static str,
    bytes: Vec<u8>,
}

/// The scanner.
#[derive(Debug)]
pub struct Secrets {
    forms: Vec<Form>,
    /// Window, form, and where in the form it is.
    windows: BTreeSet<(u64, usize, usize)>,
    /// Which hashes of windows there are.
    bitmap: Vec<u64>,
    tails: BTreeMap<(String, String), Vec<u8>>,
    /// What was found where: once is enough.
    told: BTreeSet<(usize, String)>,
    known: BTreeSet<Vec<u8>>,
    scanned: u64,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            forms: Vec::new(),
            windows: BTreeSet::new(),
            bitmap: vec![0; 64],
            tails: BTreeMap::new(),
            told: BTreeSet::new(),
            known: BTreeSet::new(),
            scanned: 0,
        }
    }
}

impl Secrets {
    /// Guards a secret from now on. One that is shorter than 15 bytes is guarded in those of its
    /// forms that are longer; of one beyond 32 bytes the first 32 are.
    ///
    /// * `name`: what a violation calls it.
    pub fn guard(&mut self, name: &str, secret: &[u8]) {
        let secret = &secret[..secret.len().min(SECRET_LEN_MAX)];
        if !self.known.insert(secret.to_vec()) {
            return;
        }
        for (form, bytes) in forms_of(secret) {
            if bytes.len() >= FORM_LEN_MIN {
                self.add(Form { secret: name.to_owned(), name: form, bytes });
            }
        }
    }

    fn add(&mut self, form: Form) {
        let number = self.forms.len();
        let fresh: Vec<u64> = form.bytes.windows(WINDOW).take(WINDOW).map(word).collect();
        let places = (0..).zip(&fresh).map(|(place, window)| (*window, number, place));
        self.windows.extend(places);
        self.forms.push(form);
        if self.windows.len() * BITS_PER_WINDOW > self.bitmap.len() * 64 {
            self.bitmap = vec![0; self.bitmap.len() * 4];
            let all: Vec<u64> = self.windows.iter().map(|(window, ..)| *window).collect();
            self.mark(&all);
        } else {
            self.mark(&fresh);
        }
    }

    fn mark(&mut self, windows: &[u64]) {
        for window in windows {
            let bit = self.bit(*window);
            self.bitmap[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Looks for every secret in bytes that leave a node.
    ///
    /// * `whose`: the node.
    /// * `channel`: "datagram", "stream 17", "disk", "log": what is found across two chunks of one
    ///   channel counts too.
    pub fn look(
        &mut self,
        at: Duration,
        whose: &str,
        channel: &str,
        bytes: &[u8],
    ) -> Vec<Violation> {
        self.scanned += bytes.len() as u64;
        let key = (whose.to_owned(), channel.to_owned());
        let mut tail = self.tails.remove(&key).unwrap_or_default();
        tail.extend(&bytes[..bytes.len().min(TAIL_LEN)]);
        let found: BTreeSet<usize> = self.find(&tail).chain(self.find(bytes)).collect();
        if bytes.len() >= TAIL_LEN {
            tail.clear();
            tail.extend(&bytes[bytes.len() - TAIL_LEN..]);
        } else {
            tail.drain(..tail.len().saturating_sub(TAIL_LEN));
        }
        if self.tails.len() >= TAILS_MAX {
            self.tails.pop_first();
        }
        self.tails.insert(key, tail);
        let mut violations = Vec::new();
        for form in found {
            if self.told.insert((form, format!("{whose} {channel}"))) {
                let Form { secret, name, .. } = &self.forms[form];
                let text = format!("{secret}, {name}, in clear: {whose}, {channel}");
                violations.push(Violation { invariant: "S14", at, text });
            }
        }
        violations
    }

    /// How much was scanned and for how many forms of secrets.
    pub fn closing(&self) -> String {
        let (forms, kib) = (self.forms.len(), self.scanned >> 10);
        format!("{kib} KiB scanned for {} secrets in {forms} forms", self.known.len())
    }

    fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let windows = (0..).step_by(WINDOW).zip(bytes.chunks_exact(WINDOW));
        let candidates = windows.filter_map(|(at, window)| {
            let window = word(window);
            let bit = self.bit(window);
            (self.bitmap[bit / 64] >> (bit % 64) & 1 == 1).then_some((at, window))
        });
        candidates.flat_map(move |(at, window): (usize, u64)| {
            let same = self.windows.range((window, 0, 0)..=(window, usize::MAX, usize::MAX));
            same.filter_map(move |&(_, form, place)| {
                let whole = &self.forms[form].bytes;
                let start = at.checked_sub(place)?;
                let there = bytes.get(start..start + whole.len())?;
                (there == whole).then_some(form)
            })
        })
    }

    /// Where in the bitmap a window is.
    fn bit(&self, window: u64) -> usize {
        // Fibonacci hashing: the upper bits of the product depend on all of the window's.
        let hash = window.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        // A power of two: a division would take most of the time of a scan.
        usize::try_from(hash).unwrap_or(0) & (self.bitmap.len() * 64 - 1)
    }
}

fn word(window: &[u8]) -> u64 {
    window.try_into().map_or(0, u64::from_le_bytes)
}

/// Every form in which a secret is looked for.
fn forms_of(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let reversed: Vec<u8> = secret.iter().rev().copied().collect();
    let mut forms = vec![("as it is", secret.to_vec()), ("reversed", reversed.clone())];
    for (name, bytes) in [("in hexadecimal", secret), ("reversed in hexadecimal", &reversed[..])] {
        let lower: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        forms.push((name, lower.to_uppercase().into_bytes()));
        forms.push((name, lower.into_bytes()));
    }
    for before in 0..3 {
        // What stands in front moves the sextets; only those that are the secret's alone count.
        let mut shifted = vec![0; before];
        shifted.extend(secret);
        let (first, last) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&shifted).into_bytes();
            forms.push(("in base64", text[first..last].to_vec()));
        }
    }
    forms.sort();
    forms.dedup_by(|a, b| a.1 == b.1);
    forms
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    /// With bytes that the two base64 alphabets write differently.
    const KEY: [u8; 16] =
        [0xFB, 0xEF, 0xBE, 0xFF, 0xFE, 5, 6, 7, 8, 9, 10, 11, 12, 0xFB, 0xFF, 0xFE];

    fn guarding() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.guard("the key", &KEY);
        secrets
    }

    fn found(secrets: &mut Secrets, channel: &str, bytes: &[u8]) -> usize {
        secrets.look(Duration::ZERO, "n1", channel, bytes).len()
    }

    #[test]
    fn every_form_is_found_wherever_it_lies() {
        let reversed: Vec<u8> = KEY.iter().rev().copied().collect();
        let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![KEY.to_vec(), reversed, hex.to_uppercase().into(), hex.into()];
        for before in 0..3 {
            let message = [&vec![b'x'; before][..], &KEY, b"and more"].concat();
            forms.push(STANDARD.encode(&message).into());
            forms.push(URL_SAFE.encode(&message).into());
        }
        for form in forms {
            for place in 0..40 {
                let message = [&vec![b'.'; place][..], &form, b"...."].concat();
                let seen = found(&mut guarding(), "datagram", &message);
                assert!(seen >= 1, "{place} bytes before {form:02x?}");
            }
        }
    }

    #[test]
    fn it_is_found_across_chunks_of_one_channel_and_not_across_channels() {
        for cut in 1..KEY.len() {
            let mut secrets = guarding();
            assert_eq!(found(&mut secrets, "stream 1", &KEY[..cut]), 0);
            assert_eq!(found(&mut secrets, "stream 2", &KEY[cut..]), 0, "another stream");
            assert_eq!(found(&mut secrets, "stream 1", &KEY[cut..]), 1, "cut at {cut}");
        }
        let mut secrets = guarding();
        let drops: usize = KEY.iter().map(|byte| found(&mut secrets, "stream 1", &[*byte])).sum();
        assert_eq!(drops, 1, "byte by byte");
    }

    #[test]
    fn what_is_no_secret_passes_and_a_leak_is_told_once() {
        let mut secrets = guarding();
        let mut almost = KEY;
        almost[15] ^= 1;
        assert_eq!(found(&mut secrets, "disk", &almost), 0);
        assert_eq!(found(&mut secrets, "disk", &[0; 4_096]), 0);
        assert_eq!(found(&mut secrets, "disk", &KEY), 1);
        assert_eq!(found(&mut secrets, "disk", &KEY), 0);
        assert_eq!(found(&mut secrets, "log", &KEY), 1, "on another channel it is news");
    }

    #[test]
    fn thousands_of_secrets_are_all_guarded() {
        let mut secrets = Secrets::default();
        let mixed = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        let key = |n: u64| [mixed(n), n.to_be_bytes()].concat();
        (1..2_000).for_each(|n| secrets.guard(&format!("key {n}"), &key(n)));
        for n in 1..2_000 {
            let text = secrets.look(Duration::ZERO, "n1", "datagram", &key(n));
            assert!(text.iter().any(|one| one.text.starts_with(&format!("key {n},"))), "key {n}");
        }
    }
}
