//! Whether there is a quorum, as this node can tell: it asks, and believes nobody's silence.
//!
//! A follower hears a leader that has lost its quorum for a while; one that is cut off remembers
//! its last. Only a ReadIndex, which a quorum has answered, says that decisions are being made.

use clock::Duration;
use node::Input;

use crate::mailbox::Mailbox;
use crate::node_loop::Local;
use crate::peer::Peers;
use crate::peer::message::{Answer, Ask, Denial};
use crate::raft::Standing;
use crate::runtime::{AsyncRuntime, Select2, WatchReceiver, detach};
use crate::service::{ConsensusOf, Ended, Fatal};
use crate::world::World;

/// How long a quorum may take to answer.
const QUORUM_MAX: Duration = Duration::from_secs(2);
/// How often a node asks, while nothing changes.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How soon it asks again after an answer that failed.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Up to where a reader must have applied to have seen all that is decided now, whoever leads.
pub(crate) async fn read_index<W: World>(
    consensus: &ConsensusOf<W>,
    peers: &Peers<W>,
) -> Option<u64> {
    let asked = async {
        match consensus.read_index().await {
            Err(Denial::NotLeader(Some(leader))) => {
                let answer = peers.link(leader)?.ask(&Ask::ReadIndex, QUORUM_MAX).await;
                match answer {
                    Ok(Answer::Index(index)) => Some(index),
                    Ok(_) | Err(_) => None,
                }
            }
            other => other.ok(),
        }
    };
    W::Runtime::timeout(QUORUM_MAX, asked).await.ok().flatten()
}

/// Tells the node each change of what its log can do, and ends it when the log has ended.
pub(crate) async fn watch<W: World>(
    consensus: ConsensusOf<W>,
    peers: Peers<W>,
    local: Mailbox<W::Runtime, Local<W::Runtime>>,
    fatal: Fatal<W::Runtime>,
) {
    let mut health = consensus.health();
    let mut told = None;
    loop {
        let now = health.borrow_and_update().clone();
        if let Standing::Stopped { text } = &now.standing {
            fatal.raise(Ended::Failed(text.clone()));
            return;
        }
        let disk_full = now.standing == Standing::Full || !consensus.has_room();
        let quorum = match now.leader {
            None => false,
            Some(_) if consensus.is_alone() => true,
            Some(_) => read_index::<W>(&consensus, &peers).await.is_some(),
        };
        let standing = (quorum && !disk_full, disk_full, now.leader.filter(|_| quorum));
        if told != Some(standing) {
            told = Some(standing);
            let (available, disk_full, leader) = standing;
            local.push(Local::Input(Input::Quorum { available, disk_full, leader }));
        }
        // Nobody tells that room, or a quorum, has gone or come back.
        let pause = if quorum || now.leader.is_none() { ASK_EVERY } else { ASK_AGAIN };
        let (leader, standing) = (now.leader, now.standing);
        let changed =
            health.wait_until(move |now| now.leader != leader || now.standing != standing);
        let waited = W::Runtime::select2(changed, W::Runtime::sleep(pause)).await;
        if let Select2::First(Err(_)) = waited {
            return;
        }
    }
}

/// Starts [`watch`].
pub(crate) fn spawn<W: World>(
    consensus: ConsensusOf<W>,
    peers: Peers<W>,
    local: Mailbox<W::Runtime, Local<W::Runtime>>,
    fatal: Fatal<W::Runtime>,
) {
    let watching = watch::<W>(consensus, peers.clone(), local, fatal);
    detach::<W::Runtime>(peers.while_open(watching));
}
