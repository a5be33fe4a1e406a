//! What the callers of the API were told, judged while it happens and once more at the end.
//!
//! Source: requirements, part G, S9: histories are linearizable per key ([`Book`]), and no client
//! sees a phantom, an older value after a newer one, or less than it has written itself
//! ([`ClientOracle`]). A cluster that is founded anew has another history: nothing is judged then.

use crate::history::{Book, ClientFact, ClientOracle, HistoryEvent, Verdict};

/// Judges what callers are told.
#[derive(Debug)]
pub(super) struct Histories {
    book: Book,
    oracle: ClientOracle,
    void: bool,
}

impl Default for Histories {
    fn default() -> Self {
        // Whoever is called about has devices that never send: nothing is handed out to them.
        Self { book: Book::new(false), oracle: ClientOracle::new(false), void: false }
    }
}

impl Histories {
    /// Takes down what happened; says what it contradicts, if anything.
    pub(super) fn observe(&mut self, event: HistoryEvent) -> Vec<String> {
        if self.void {
            return Vec::new();
        }
        self.book.observe(&event);
        self.oracle.observe(&ClientFact::Call(event))
    }

    /// What was written is lost, and nobody is to blame.
    pub(super) fn forget(&mut self) {
        self.void = true;
    }

    /// The keys whose history no order explains: each with its explanation. What could not be
    /// decided within bounds is told as such.
    pub(super) fn judge(&self) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut undecided) = (Vec::new(), Vec::new());
        if self.void {
            return (wrong, undecided);
        }
        for (key, verdict) in self.book.judge() {
            let text = format!("{key}: {verdict}");
            match verdict {
                Verdict::Linearizable { .. } => {}
                Verdict::Undecided { .. } => undecided.push(text),
                Verdict::Broken(_) => wrong.push(text),
            }
        }
        (wrong, undecided)
    }
}
