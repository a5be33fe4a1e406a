//! Takes what the loop wants decided to whoever leads, again and again until it is decided.
//!
//! What this node proposes is *outstanding* until its own apply has seen it, or its patience has
//! ended. It goes to the leader, this node or another, in order; when the leader changes or does
//! not answer, everything outstanding is told again in the same order, under the same names: what
//! was decided meanwhile gets its first answer. What came together becomes one entry of the log.
//! Source: DESIGN 4.4; dangers A13, B4.

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::{Duration, Instant};
use node::{Input, ProposalError};
use store::{Entry, Proposal, RequestId};

use crate::mailbox::{Inbox, Mailbox};
use crate::node_loop::Local;
use crate::peer::Peers;
use crate::peer::link::AskError;
use crate::peer::message::{Answer, Ask, Denial};
use crate::raft::{Pending, ProposeError, Standing};
use crate::runtime::{AsyncRuntime, OnceTx, OneshotSender, Select3, WatchReceiver, detach};
use crate::service::ConsensusOf;
use crate::world::World;

/// Commands in one entry; more go into the next.
const PROPOSALS_PER_ENTRY: usize = 256;
/// Bytes in one entry, roughly; a command that is larger alone goes alone.
const ENTRY_BYTES: usize = 512 * 1024;
/// How long a monotonic interval an entry may report: a pause of the process is not time that
/// passed for sessions and expiries.
const ELAPSED_MAX: Duration = Duration::from_secs(10);
/// How long a proposal is told again before whoever made it is told that nobody knows.
const PATIENCE: Duration = Duration::from_secs(5);
/// Told but not decided for so long: told again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Pause after the leader refused or did not answer.
const PAUSE: Duration = Duration::from_millis(30);
/// How long the leader may take to have forwarded proposals decided.
const FORWARD_MAX: Duration = Duration::from_secs(2);

/// What the proposer is told.
pub(crate) enum Told<R: AsyncRuntime> {
    /// The loop wants this decided.
    Propose(Box<Proposal>),
    /// The log has answered these, or nobody wants them decided any more.
    Decided(Vec<RequestId>),
    /// Another node wants these decided, and thinks that this one leads.
    Forwarded(Vec<Proposal>, OnceTx<R, Answer>),
    /// What became of telling the proposals up to a number.
    Ended { first: u64, last: u64, result: Result<(), Refused> },
}

/// Why telling the leader came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing was written by this telling: tell it again.
    Again,
    /// Nobody knows: tell it again, under the same names.
    Unknown,
    /// There is no point in telling it again.
    For(ProposalError),
}

/// Who leads, in which term.
type Leadership = (u64, u64);

struct Item {
    proposal: Proposal,
    until: Instant,
    /// When somebody was told.
    told: Option<Instant>,
    /// It may be in the log, now or later.
    perhaps: bool,
}

impl Item {
    /// What its proposer is told when it is given up. Nobody is told that nothing was done of what
    /// may yet be.
    const fn verdict(&self, why: ProposalError) -> ProposalError {
        if self.perhaps { ProposalError::Unknown } else { why }
    }
}

pub(crate) struct Proposer<W: World> {
    pub(crate) world: W,
    pub(crate) peers: Peers<W>,
    pub(crate) consensus: ConsensusOf<W>,
    pub(crate) told: Inbox<W::Runtime, Told<W::Runtime>>,
    pub(crate) own: Mailbox<W::Runtime, Told<W::Runtime>>,
    pub(crate) local: Mailbox<W::Runtime, Local<W::Runtime>>,
}

/// What is outstanding, in order.
#[derive(Default)]
struct Outstanding {
    items: BTreeMap<u64, Item>,
    numbers: BTreeMap<RequestId, u64>,
    last: u64,
    /// Who was told everything up to which number.
    told_upto: Option<(Leadership, u64)>,
    /// One lot at a time is on its way to another node.
    forwarding: bool,
    paused_until: Option<Instant>,
}

impl Outstanding {
    fn push(&mut self, proposal: Proposal, until: Instant) {
        self.last += 1;
        // The same question again is the same proposal, with new patience.
        if let Some(number) = self.numbers.get(&proposal.request)
            && let Some(item) = self.items.get_mut(number)
        {
            item.until = until;
            return;
        }
        self.numbers.insert(proposal.request, self.last);
        let item = Item { proposal, until, told: None, perhaps: false };
        self.items.insert(self.last, item);
    }

    fn decided(&mut self, requests: &[RequestId]) {
        for request in requests {
            if let Some(number) = self.numbers.remove(request) {
                self.items.remove(&number);
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Item> {
        let item = self.items.remove(&number)?;
        self.numbers.remove(&item.proposal.request);
        Some(item)
    }

    /// These may be in the log.
    fn may_be_written(&mut self, (first, last): (u64, u64)) {
        self.items.range_mut(first..=last).for_each(|(_, item)| item.perhaps = true);
    }

    /// Everything from a number on is told again.
    fn untell_from(&mut self, first: u64) {
        if let Some((_, upto)) = &mut self.told_upto {
            *upto = (*upto).min(first.saturating_sub(1));
        }
    }

    /// One entry's worth of what this leader is to be told, marked as told. All of it once more if
    /// the oldest was told too long ago.
    fn take_lot(&mut self, leadership: Leadership, now: Instant) -> Option<Lot> {
        let stale =
            |(_, item): (_, &Item)| item.told.is_some_and(|told| now.since(told) >= AGAIN_AFTER);
        let upto = match self.told_upto {
            Some((to, upto))
                if to == leadership && !self.items.iter().next().is_some_and(stale) =>
            {
                upto
            }
            Some(_) | None => 0,
        };
        let (first, _) = self.items.range(upto + 1..).next()?;
        let mut lot = Lot { first: *first, last: *first, proposals: Vec::new() };
        let mut bytes = 0;
        for (number, item) in self.items.range_mut(lot.first..) {
            let size = store::proposal_size(&item.proposal);
            let full = lot.proposals.len() == PROPOSALS_PER_ENTRY || bytes + size > ENTRY_BYTES;
            if full && !lot.proposals.is_empty() {
                break;
            }
            bytes += size;
            item.told = Some(now);
            lot.last = *number;
            lot.proposals.push(item.proposal.clone());
        }
        self.told_upto = Some((leadership, lot.last));
        Some(lot)
    }

    /// When something must happen to the oldest; the others follow it.
    ///
    /// * `can_tell`: there is somebody to be told again. Without, that is no deadline: whatever
    ///   changes it is told, and a moment that has passed would be waited for without end.
    fn next_deadline(&self, can_tell: bool) -> Option<Instant> {
        let (_, oldest) = self.items.iter().next()?;
        let again = oldest.told.filter(|_| can_tell).map(|told| told + AGAIN_AFTER);
        [Some(oldest.until), again, self.paused_until].into_iter().flatten().min()
    }

    /// Those at the front whose patience has ended.
    fn take_late(&mut self, now: Instant) -> Option<Item> {
        let (number, _) = self.items.iter().next().filter(|(_, item)| item.until <= now)?;
        let number = *number;
        self.remove(number)
    }
}

struct Lot {
    first: u64,
    last: u64,
    proposals: Vec<Proposal>,
}

impl<W: World> Proposer<W> {
    /// Starts proposing.
    pub(crate) fn spawn(self) {
        detach::<W::Runtime>(self.peers.clone().while_open(self.run()));
    }

    async fn run(mut self) {
        let mut health = self.consensus.health();
        let mut outstanding = Outstanding::default();
        let mut clock = Stamp { at: self.world.now().instant, term: 0 };
        loop {
            let far = self.world.now().instant + Duration::from_secs(3_600);
            let can_tell = self.can_tell(&outstanding);
            let deadline = outstanding.next_deadline(can_tell).unwrap_or(far);
            let next = W::Runtime::select3(
                self.told.take(),
                health.changed(),
                self.world.sleep_until(deadline),
            );
            match next.await {
                Select3::First(Some(items)) => {
                    self.take(items, &mut outstanding, &mut clock).await;
                }
                Select3::First(None) | Select3::Second(Err(_)) => return,
                Select3::Second(Ok(())) | Select3::Third(()) => {}
            }
            self.expire(&mut outstanding);
            self.tell_leader(&mut outstanding, &mut clock).await;
        }
    }

    /// Whether the leader can be told something now.
    fn can_tell(&self, outstanding: &Outstanding) -> bool {
        let status = self.consensus.status();
        let free = |leader| leader == status.id || !outstanding.forwarding;
        outstanding.paused_until.is_none() && status.leader.is_some_and(free)
    }

    async fn take(
        &self,
        items: Vec<Told<W::Runtime>>,
        outstanding: &mut Outstanding,
        clock: &mut Stamp,
    ) {
        let now = self.world.now().instant;
        for item in items {
            match item {
                Told::Propose(proposal) => outstanding.push(*proposal, now + PATIENCE),
                Told::Decided(requests) => outstanding.decided(&requests),
                Told::Forwarded(proposals, answer) => match self.append(proposals, clock).await {
                    Ok(pending) => answer_when_decided::<W>(pending, answer),
                    Err(error) => drop(answer.send(Answer::No(denial(&error)))),
                },
                Told::Ended { first, last, result } => {
                    self.ended(outstanding, (first, last), result);
                }
            }
        }
    }

    fn ended(
        &self,
        outstanding: &mut Outstanding,
        (first, last): (u64, u64),
        result: Result<(), Refused>,
    ) {
        match result {
            Ok(()) => {}
            Err(again @ (Refused::Again | Refused::Unknown)) => {
                if again == Refused::Unknown {
                    outstanding.may_be_written((first, last));
                }
                outstanding.untell_from(first);
                outstanding.paused_until = Some(self.world.now().instant + PAUSE);
            }
            Err(Refused::For(why)) => {
                let numbers: Vec<u64> =
                    outstanding.items.range(first..=last).map(|(number, _)| *number).collect();
                for item in numbers.into_iter().filter_map(|number| outstanding.remove(number)) {
                    self.fail(item.proposal.request, item.verdict(why));
                }
            }
        }
        outstanding.forwarding = false;
    }

    /// Whoever has waited too long is told so.
    fn expire(&self, outstanding: &mut Outstanding) {
        let now = self.world.now().instant;
        if outstanding.paused_until.is_some_and(|until| until <= now) {
            outstanding.paused_until = None;
        }
        while let Some(item) = outstanding.take_late(now) {
            self.fail(item.proposal.request, item.verdict(ProposalError::NoQuorum));
        }
    }

    async fn tell_leader(&self, outstanding: &mut Outstanding, clock: &mut Stamp) {
        let status = self.consensus.status();
        match &status.standing {
            Standing::Running => {}
            Standing::Full => return self.fail_all(outstanding, ProposalError::DiskFull),
            Standing::Stopped { .. } => return self.fail_all(outstanding, ProposalError::Stopping),
        }
        let Some(leader) = status.leader else { return };
        let leadership = (leader, status.term);
        let now = self.world.now().instant;
        if outstanding.paused_until.is_some() {
            return;
        }
        if leader != status.id {
            if !outstanding.forwarding
                && let Some(lot) = outstanding.take_lot(leadership, now)
            {
                outstanding.forwarding = true;
                outstanding.may_be_written((lot.first, lot.last));
                self.forward(leader, lot);
            }
            return;
        }
        while let Some(lot) = outstanding.take_lot(leadership, now) {
            let Lot { first, last, proposals } = lot;
            match self.append(proposals, clock).await {
                Ok(pending) => {
                    outstanding.may_be_written((first, last));
                    self.follow(pending, first, last);
                }
                Err(error) => {
                    self.ended(outstanding, (first, last), Err(refused(&error)));
                    return;
                }
            }
        }
    }

    fn fail_all(&self, outstanding: &mut Outstanding, why: ProposalError) {
        let numbers: Vec<u64> = outstanding.items.keys().copied().collect();
        for item in numbers.into_iter().filter_map(|number| outstanding.remove(number)) {
            self.fail(item.proposal.request, item.verdict(why));
        }
    }

    /// Puts proposals into this node's log as one entry, stamped with its time.
    async fn append(
        &self,
        proposals: Vec<Proposal>,
        clock: &mut Stamp,
    ) -> Result<Pending<W::Runtime>, ProposeError> {
        let now = self.world.now();
        let term = self.consensus.status().term;
        // Time that passed before this node led was another leader's to count.
        if clock.term != term {
            *clock = Stamp { at: now.instant, term };
        }
        let elapsed = now.instant.since(clock.at).min(ELAPSED_MAX);
        clock.at = now.instant;
        let elapsed_micros = u64::try_from(elapsed.as_micros()).unwrap_or(0);
        let entry = Entry { wall: now.wall, elapsed_micros, proposals };
        let bytes = store::encode_entry(&entry)
            .map_err(|_| ProposeError::TooLarge { bytes: usize::MAX, limit: ENTRY_BYTES })?;
        self.consensus.submit(Bytes::from(bytes)).await
    }

    /// Waits beside the next proposals for the fate of these. A decision reaches the node by being
    /// applied; only a failure is told.
    fn follow(&self, pending: Pending<W::Runtime>, first: u64, last: u64) {
        let own = self.own.clone();
        detach::<W::Runtime>(async move {
            if let Err(error) = pending.await {
                own.push(Told::Ended { first, last, result: Err(refused(&error)) });
            }
        });
    }

    fn forward(&self, leader: u64, lot: Lot) {
        let Lot { first, last, proposals } = lot;
        let link = self.peers.link(leader);
        let own = self.own.clone();
        detach::<W::Runtime>(async move {
            let asked = match link {
                Some(link) => link.ask(&Ask::Forward(proposals), FORWARD_MAX).await,
                None => Err(AskError::Unreachable("not a known member".into())),
            };
            let result = match asked {
                Ok(Answer::Yes) => Ok(()),
                Ok(Answer::No(Denial::DiskFull)) => Err(Refused::For(ProposalError::DiskFull)),
                Ok(_) | Err(AskError::Unreachable(_)) => Err(Refused::Again),
                Err(AskError::Unknown) => Err(Refused::Unknown),
            };
            own.push(Told::Ended { first, last, result });
        });
    }

    fn fail(&self, request: RequestId, why: ProposalError) {
        self.local.push(Local::Input(Input::ProposalFailed { request, why }));
    }
}

/// Tells the other node what has become of its proposals: it tells the next ones only then, so that
/// none overtakes another.
fn answer_when_decided<W: World>(pending: Pending<W::Runtime>, answer: OnceTx<W::Runtime, Answer>) {
    detach::<W::Runtime>(async move {
        let said = match pending.await {
            Ok(_) => Answer::Yes,
            Err(error) => Answer::No(denial(&error)),
        };
        answer.send(said).ok();
    });
}

/// When this node last stamped an entry, and in which term.
struct Stamp {
    at: Instant,
    term: u64,
}

fn refused(error: &ProposeError) -> Refused {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::NoQuorum => Refused::Again,
        ProposeError::Unknown => Refused::Unknown,
        ProposeError::Full => Refused::For(ProposalError::DiskFull),
        ProposeError::TooLarge { .. } => Refused::For(ProposalError::TooLarge),
        ProposeError::Stopped { .. } => Refused::For(ProposalError::Stopping),
    }
}

fn denial(error: &ProposeError) -> Denial {
    match error {
        ProposeError::NotLeader { leader } => Denial::NotLeader(Some(*leader)),
        ProposeError::NoQuorum | ProposeError::Unknown => Denial::NoQuorum,
        ProposeError::Full => Denial::DiskFull,
        ProposeError::TooLarge { .. } | ProposeError::Stopped { .. } => {
            Denial::Because(error.to_string())
        }
    }
}
