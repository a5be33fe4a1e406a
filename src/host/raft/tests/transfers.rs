//! Snapshots on their way from node to node: lost answers, two senders, full disks, power cuts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use openraft::vote::RaftLeaderId;

use super::super::network::{Asking, Members};
use super::super::types::SnapshotMeta;
use super::super::wire::{Ballot, SnapshotOpening};
use super::*;
use crate::peer::link::AskError;
use crate::peer::message::{Answer, Ask, Denial};

/// All nodes in one process; some answers to pieces are lost.
#[derive(Clone, Default)]
struct Hall {
    nodes: Arc<Mutex<BTreeMap<u64, Tapes>>>,
    lose: Arc<Mutex<Vec<u32>>>,
    pieces: Arc<AtomicU64>,
    farthest: Arc<AtomicU64>,
}

impl Members for Hall {
    fn ask(&self, target: u64, ask: Ask, _: Duration) -> Asking<'_> {
        Box::pin(async move {
            let node = self.nodes.lock().unwrap().get(&target).cloned();
            let node = node.ok_or_else(|| AskError::Unreachable("not there".into()))?;
            let mut piece = None;
            if let Ask::SnapshotPiece { piece: number, .. } = &ask {
                piece = Some(*number);
            }
            let answer = node.answer(ask).await.unwrap();
            if let Some(piece) = piece {
                self.pieces.fetch_add(1, Ordering::Relaxed);
                let shown = node.status().receiving.map_or(0, |transfer| transfer.done);
                self.farthest.fetch_max(u64::from(shown), Ordering::Relaxed);
                let mut lose = self.lose.lock().unwrap();
                if lose.contains(&piece) {
                    lose.retain(|other| *other != piece);
                    return Err(AskError::Unknown);
                }
            }
            Ok(answer)
        })
    }
}

impl Hall {
    async fn start(&self, id: u64, founders: &[u64], settings: Settings) -> (Tapes, Tape) {
        let settings =
            Settings { raft_id: id, founders: founders.iter().copied().collect(), ..settings };
        let (disk, tape) = (InlineDisk::open(&TornDisk::default()), Tape::default());
        let members = Arc::new(self.clone());
        let node = Tapes::start_among(members, disk, tape.clone(), settings).await.unwrap();
        self.nodes.lock().unwrap().insert(id, node.clone());
        (node, tape)
    }
}

fn opening(term: u64, index: u64, pieces: u32) -> SnapshotOpening {
    let leader = openraft::vote::leader_id_std::LeaderId::new(term, 9);
    let vote = VoteGiven::from_leader_id(leader, true);
    let meta = SnapshotMeta {
        last_log_id: Some(LogId::new(CommittedLeaderId::new(term), index)),
        ..SnapshotMeta::default()
    };
    SnapshotOpening::of(Ballot::of(&vote), &meta, pieces)
}

async fn begin(node: &Tapes, opening: SnapshotOpening) -> u64 {
    match node.answer(Ask::SnapshotBegin(opening)).await {
        Some(Answer::Transfer(transfer)) => transfer,
        other => panic!("{other:?}"),
    }
}

async fn piece(node: &Tapes, transfer: u64, piece: u32) -> Answer {
    let bytes = format!("piece {piece}").into_bytes();
    node.answer(Ask::SnapshotPiece { transfer, piece, bytes }).await.unwrap()
}

fn is_refused(answer: &Answer) -> bool {
    matches!(answer, Answer::No(Denial::Because(_)))
}

#[test]
fn a_member_gets_a_snapshot_in_pieces_although_answers_are_lost() {
    run(async {
        let hall = Hall::default();
        let short = Settings { snapshot_entries: 50, keep_entries: 1, ..settings() };
        let (leader, _) = hall.start(1, &[1], short.clone()).await;
        until(&leader, |health| health.leader == Some(1)).await;
        propose(&leader, 0..400).await;
        leader.snapshot().await;
        until(&leader, |health| health.snapshot >= Some(350)).await;
        hall.lose.lock().unwrap().extend([0, 3, 349]);
        let (late, tape) = hall.start(2, &[], short).await;
        leader.add_learner(2).await.unwrap();
        until(&late, |health| health.applied.is_some_and(|at| at >= 400)).await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while tape.commands().len() < 400 {
            assert!(Instant::now() < deadline, "{}", tape.commands().len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(tape.commands(), (0..400).map(command).collect::<Vec<_>>());
        let sent = hall.pieces.load(Ordering::Relaxed);
        assert!((350..500).contains(&sent), "{sent}: no piece but those lost was sent again");
        assert!(hall.farthest.load(Ordering::Relaxed) > 300, "progress is shown");
        assert_eq!(late.status().receiving, None);
        // Its last answer may still be on its way.
        while !leader.composition().sending.is_empty() {
            assert!(Instant::now() < deadline, "the leader never learns that all has arrived");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn who_stands_still_is_not_alone_for_that() {
    run(async {
        let hall = Hall::default();
        let (leader, _) = hall.start(1, &[1], settings()).await;
        until(&leader, |health| health.leader == Some(1)).await;
        let (other, _) = hall.start(2, &[], settings()).await;
        leader.add_learner(2).await.unwrap();
        until(&other, |health| health.leader == Some(1)).await;
        other.shutdown().await;
        leader.shutdown().await;
        assert!(!other.is_alone(), "others decide, and it would not know");
        assert!(leader.is_alone());
    });
}

#[test]
fn a_snapshot_built_here_spares_the_pieces_of_one_that_is_coming() {
    run(async {
        let (node, _, disk) = start(&TornDisk::default(), settings()).await;
        propose(&node, 0..20).await;
        let transfer = begin(&node, opening(100, 1_000, 3)).await;
        assert_eq!(piece(&node, transfer, 0).await, Answer::Yes);
        node.snapshot().await;
        until(&node, |health| health.snapshot.is_some()).await;
        assert!(disk.database().snapshot_chunk(transfer, 0).unwrap().is_some());
        assert_eq!(node.status().receiving, Some(Transfer { done: 1, pieces: 3 }));
        // Given up: its pieces go with the next one that becomes current.
        begin(&node, opening(101, 1_000, 3)).await;
        propose(&node, 20..25).await;
        let last = node.status().snapshot;
        node.snapshot().await;
        until(&node, |health| health.snapshot > last).await;
        assert!(disk.database().snapshot_chunk(transfer, 0).unwrap().is_none());
    });
}

#[test]
fn of_two_senders_the_newer_leader_s_snapshot_is_taken() {
    run(async {
        let (node, _, _) = start(&TornDisk::default(), settings()).await;
        propose(&node, 0..1).await;
        let deposed = node.answer(Ask::SnapshotBegin(opening(0, 1_000, 2))).await;
        assert!(matches!(deposed, Some(Answer::Standing(_))), "{deposed:?}");
        let old = begin(&node, opening(50, 1_000, 2)).await;
        assert_eq!(piece(&node, old, 0).await, Answer::Yes);
        let new = begin(&node, opening(60, 1_000, 2)).await;
        assert!(is_refused(&piece(&node, old, 1).await));
        let again = node.answer(Ask::SnapshotBegin(opening(50, 1_000, 2))).await;
        assert!(matches!(again, Some(Answer::Standing(_))), "{again:?}");
        assert_eq!(piece(&node, new, 0).await, Answer::Yes);
        assert_eq!(piece(&node, new, 1).await, Answer::Yes);
        assert!(is_refused(&node.answer(Ask::SnapshotEnd { transfer: old }).await.unwrap()));
    });
}

#[test]
fn a_piece_that_comes_twice_counts_once_and_none_is_left_out() {
    run(async {
        let (node, _, disk) = start(&TornDisk::default(), settings()).await;
        propose(&node, 0..1).await;
        let transfer = begin(&node, opening(50, 1_000, 3)).await;
        for _ in 0..2 {
            assert_eq!(piece(&node, transfer, 0).await, Answer::Yes);
        }
        assert!(is_refused(&piece(&node, transfer, 2).await));
        assert!(is_refused(&node.answer(Ask::SnapshotEnd { transfer }).await.unwrap()));
        assert_eq!(piece(&node, transfer, 1).await, Answer::Yes);
        assert!(is_refused(&piece(&node, transfer, 0).await), "older than the last");
        assert_eq!(piece(&node, transfer, 2).await, Answer::Yes);
        assert!(is_refused(&piece(&node, transfer, 3).await), "there are three");
        assert_eq!(node.status().receiving, Some(Transfer { done: 3, pieces: 3 }));
        // One is gone all the same: the snapshot never becomes current.
        let keep = Op::DropSnapshotsExcept { keep: vec![] };
        disk.database().commit_one(Batch::new().with(keep)).unwrap();
        assert!(is_refused(&node.answer(Ask::SnapshotEnd { transfer }).await.unwrap()));
        propose(&node, 1..2).await;
    });
}

#[test]
fn a_full_disk_refuses_a_piece_and_takes_it_later() {
    run(async {
        let torn = TornDisk::default();
        let (node, _, disk) = start(&torn, settings()).await;
        propose(&node, 0..1).await;
        disk.low.store(true, Ordering::Relaxed);
        let refused = node.answer(Ask::SnapshotBegin(opening(50, 1_000, 2))).await;
        assert_eq!(refused, Some(Answer::No(Denial::DiskFull)));
        disk.low.store(false, Ordering::Relaxed);
        let transfer = begin(&node, opening(50, 1_000, 2)).await;
        torn.arm(DiskFault::Full(0));
        assert_eq!(piece(&node, transfer, 0).await, Answer::No(Denial::DiskFull));
        torn.make_room();
        assert_eq!(piece(&node, transfer, 0).await, Answer::Yes);
        assert_eq!(piece(&node, transfer, 1).await, Answer::Yes);
    });
}

#[test]
fn an_fsync_that_fails_under_a_piece_stops_the_node() {
    run(async {
        let torn = TornDisk::default();
        let (node, _, _) = start(&torn, settings()).await;
        propose(&node, 0..1).await;
        let transfer = begin(&node, opening(50, 1_000, 2)).await;
        torn.arm(DiskFault::Sync(0));
        assert!(is_refused(&piece(&node, transfer, 0).await));
        let health =
            until(&node, |health| matches!(health.standing, Standing::Stopped { .. })).await;
        let Standing::Stopped { text } = health.standing else { unreachable!() };
        assert!(text.contains("fsync failed"), "{text}");
    });
}

#[test]
fn pieces_of_a_snapshot_cut_short_by_a_power_cut_are_swept() {
    run(async {
        let torn = TornDisk::default();
        let (node, _, disk) = start(&torn, settings()).await;
        propose(&node, 0..10).await;
        let transfer = begin(&node, opening(50, 1_000, 2)).await;
        assert_eq!(piece(&node, transfer, 0).await, Answer::Yes);
        drop((node, disk));
        tokio::time::sleep(Duration::from_millis(50)).await;
        torn.cut();
        torn.reboot(&mut Dice(7));
        let (node, tape, disk) = start(&torn, settings()).await;
        propose(&node, 10..11).await;
        assert_eq!(tape.commands().len(), 11);
        assert!(disk.database().snapshot_chunk(transfer, 0).unwrap().is_none());
        assert!(is_refused(&piece(&node, transfer, 1).await));
    });
}

#[test]
fn no_snapshot_is_made_while_one_is_being_sent() {
    run(async {
        let (node, _, _) = start(&TornDisk::default(), settings()).await;
        propose(&node, 0..20).await;
        let pin = node.inner.shared.pins.hold_for_sending(1);
        node.snapshot().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(node.status().snapshot, None);
        drop(pin);
        node.snapshot().await;
        until(&node, |health| health.snapshot.is_some()).await;
    });
}
