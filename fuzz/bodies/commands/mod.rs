//! Bytes as a history of the replicated state: commands of every kind with retries, leaders' clocks
//! that jump, entries of several commands, and a node that begins anew from its snapshot at any
//! point; after every entry the state must say what a plain model says.
//!
//! * `script.rs`: bytes to steps, over few names, so that commands meet.
//! * `model/`: what the state must say, and answer.
//! * `check.rs`: the comparison, through the state's readers.
//! * `ledger.rs`: what may never happen twice, whatever the model says.
//!
//! `TERN_TRACE=1` prints what is asked and answered, to read a failure.
//!
//! Two replicas apply each entry, one of them from its bytes. Source: DESIGN 3, 4, 5, 7.

mod check;
mod ledger;
mod model;
mod names;
mod script;
pub mod stories;

use clock::WallTime;
use store::limits::FEATURE_LEVEL;
use store::{
    Applied, ApplyError, Change, Command, Entry, Proposal, Reply, SnapshotBuilder, State,
    decode_entry, decode_event_row, encode_entry, encode_event_row, proposal_size,
};

use ledger::Ledger;
use model::Model;
use script::{Ask, Script, Step};

/// Steps of one history.
const STEPS_MAX: usize = 200;
/// Proposals of one history: bursts reach every bound but those that would take minutes.
const PROPOSALS_MAX: usize = 6_000;
/// Leader time between two entries, unless a step says otherwise.
const SECOND_MICROS: u64 = 1_000_000;

/// One input.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut history = History::founded();
    for _ in 0..STEPS_MAX {
        let Some(step) = script.step(&history.model) else { break };
        match step {
            Step::Clock { wall, elapsed_micros } => {
                (history.wall, history.elapsed_micros) = (wall, elapsed_micros);
            }
            Step::Cut => history.cut(),
            Step::Entry(asks) => history.entry(asks),
        }
    }
    history.cut();
}

/// Two replicas, the model, and what was asked so far.
struct History {
    here: State,
    /// Reads entries from bytes, and begins anew from its snapshot at each cut.
    there: State,
    model: Model,
    ledger: Ledger,
    index: u64,
    wall: WallTime,
    elapsed_micros: u64,
    asked: Vec<Proposal>,
    traces: bool,
}

impl History {
    fn founded() -> Self {
        let mut history = Self {
            here: State::new(),
            there: State::new(),
            model: Model::default(),
            ledger: Ledger::default(),
            index: 0,
            wall: WallTime::from_unix_secs(1_790_000_000),
            elapsed_micros: 0,
            asked: Vec::new(),
            traces: std::env::var_os("TERN_TRACE").is_some(),
        };
        history.model.first_row = history.here.first_event();
        history.entry(vec![Ask::New(script::found())]);
        history
    }

    fn proposal(&mut self, ask: Ask) -> Option<Proposal> {
        if self.asked.len() >= PROPOSALS_MAX {
            return None;
        }
        let proposal = match ask {
            Ask::New(command) => {
                let mut request = [0; 16];
                let number = u64::try_from(self.asked.len()).expect("few");
                request[..8].copy_from_slice(&number.to_be_bytes());
                Proposal { request: mac::RequestId(request), command }
            }
            Ask::Again(back) => self.asked.iter().rev().nth(back)?.clone(),
        };
        self.asked.push(proposal.clone());
        Some(proposal)
    }

    /// Appends an entry and applies it everywhere.
    fn entry(&mut self, asks: Vec<Ask>) {
        let proposals = asks.into_iter().filter_map(|ask| self.proposal(ask)).collect();
        let elapsed_micros = core::mem::replace(&mut self.elapsed_micros, SECOND_MICROS);
        let entry = Entry { wall: self.wall, elapsed_micros, proposals };
        let copy = read_back(&entry);
        // Indices rise, but the log has entries that are not commands too.
        self.index += 1 + self.index % 2;
        if self.is_beyond_us(&entry) {
            return;
        }
        let before = self.here.clone();
        let applied = self.here.apply(self.index, &entry).expect("an entry that we know");
        let twin = self.there.apply(self.index, &copy).expect("an entry that we know");
        assert_eq!(applied, twin, "two replicas, two outcomes");
        self.model.begin(&entry);
        assert_eq!(applied.replies.len(), entry.proposals.len());
        for (proposal, (request, reply)) in entry.proposals.iter().zip(&applied.replies) {
            assert_eq!(proposal.request, *request);
            if self.traces {
                println!("{} {:?}\n  {reply:?}", self.index, proposal.command);
            }
            let wanted = self.model.decide(proposal, reply);
            assert_eq!(textless(reply), textless(&wanted), "to {proposal:?}");
            if let Some(first) = self.model.answer(proposal.request) {
                assert_eq!(reply, first, "asked again: {proposal:?}");
            }
            self.ledger.note(proposal, reply, &self.model);
        }
        for (request, _) in &applied.replies {
            assert_eq!(self.here.recorded_reply(*request), self.model.answer(*request));
        }
        self.check_rows(&applied);
        self.model.first_row = self.here.first_event();
        check::same(&self.model, &self.here);
        check::changes_are_named(&before, &self.here, &applied.changes);
        if let ([_], [(_, reply)]) = (&entry.proposals[..], &applied.replies[..])
            && changes_nothing(reply)
        {
            check::untouched(&before, &self.here);
            assert!(applied.rows.is_empty(), "a row of nothing: {reply:?}");
            let ended = |change: &Change| matches!(change, Change::ClientEnded { .. });
            assert!(applied.changes.iter().all(ended), "a change of nothing: {reply:?}");
        }
    }

    /// A node that does not know an entry must stop as it was.
    fn is_beyond_us(&mut self, entry: &Entry) -> bool {
        let levels = entry.proposals.iter().filter_map(|proposal| match proposal.command {
            Command::RaiseFeatureLevel(level) => Some(level),
            _ => None,
        });
        let Some(wanted) = levels.max().filter(|level| *level > FEATURE_LEVEL) else {
            return false;
        };
        let before = self.here.state_hash();
        let refused = self.here.apply(self.index, entry);
        assert_eq!(refused, Err(ApplyError::FeatureLevel { wanted }));
        assert_eq!(self.here.state_hash(), before, "a refused entry left something behind");
        true
    }

    fn check_rows(&mut self, applied: &Applied) {
        let seen: Vec<_> = applied.rows.iter().map(check::plain).collect();
        assert_eq!(seen, self.model.rows, "rows");
        for row in &applied.rows {
            let bytes = encode_event_row(row);
            assert_eq!(decode_event_row(&bytes).as_ref(), Ok(row));
            self.ledger.note_row(row, self.here.now());
        }
        self.ledger.note_dropped(&self.here, applied.drop_below);
    }

    /// One node writes its snapshot and becomes what it says; nobody can tell the difference.
    fn cut(&mut self) {
        let pieces: Vec<Vec<u8>> = self.here.snapshot().collect();
        assert!(self.there.snapshot().eq(pieces.iter().cloned()), "replicas differ");
        let mut builder = SnapshotBuilder::new();
        for piece in &pieces {
            builder.feed(piece).expect("our own snapshot");
        }
        self.there = builder.finish().expect("our own snapshot");
        assert!(self.there.snapshot().eq(pieces), "a snapshot of a snapshot differs");
        assert_eq!(self.there.state_hash(), self.here.state_hash());
        assert_eq!(self.there.event_hash(), self.here.event_hash());
        check::same(&self.model, &self.there);
        let applied = self.there.applied_index();
        let late = Entry { wall: self.wall, elapsed_micros: 0, proposals: vec![] };
        let refused = self.there.apply(applied, &late);
        assert_eq!(refused, Err(ApplyError::NotAbove { index: applied, applied }));
    }
}

/// The entry as another node reads it.
fn read_back(entry: &Entry) -> Entry {
    let bytes = encode_entry(entry).expect("far below the bound");
    let copy = decode_entry(&bytes).expect("our own bytes");
    assert_eq!(copy, *entry);
    assert_eq!(encode_entry(&copy).as_ref(), Ok(&bytes));
    let proposals: usize = entry.proposals.iter().map(proposal_size).sum();
    assert!((proposals..proposals + 32).contains(&bytes.len()), "{proposals} in {}", bytes.len());
    copy
}

/// Whether an answer says that the question has left everything as it was.
fn changes_nothing(reply: &Reply) -> bool {
    use mac::{JoinReply as J, PlanReply as P, UplinkReply as U};
    match reply {
        Reply::Refused(_) | Reply::Plan(P::Gone) => true,
        Reply::Uplink(verdict) => !matches!(verdict, U::Accepted { .. } | U::Conflict),
        Reply::Join(verdict) => !matches!(verdict, J::Accepted { .. }),
        Reply::Plan(P::Planned { .. })
        | Reply::Done
        | Reply::Admitted(_)
        | Reply::ClientSession { .. } => false,
    }
}

/// A reply whose refusal has no text: the model knows the kind alone.
fn textless(reply: &Reply) -> Reply {
    use store::Refusal as R;
    let text = String::new;
    let Reply::Refused(refusal) = reply else { return reply.clone() };
    Reply::Refused(match refusal {
        R::NotFound(_) => R::NotFound(text()),
        R::AlreadyExists(_) => R::AlreadyExists(text()),
        R::InUse(_) => R::InUse(text()),
        R::LimitReached(_) => R::LimitReached(text()),
        R::Invalid(_) => R::Invalid(text()),
        R::Fenced => R::Fenced,
    })
}
