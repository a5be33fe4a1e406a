//! Deliberate bugs that prove that the simulator's checkers see: which there are, and whether one
//! is planted.
//!
//! Code asks [`planted`] once for each bug, at the place where an engineer would make that mistake.
//! Without the feature `sabotage`, which the simulator alone turns on, the answer is a constant:
//! the branch goes, no static and no name remains. With it `plant` plants one bug by name, for the
//! thread that asks: a run is one thread, and the tests of one process do not meet.
//!
//! To add a bug: a line in the table below, one `if` where it belongs, and
//! `cargo sim sabotage --bug NAME`.

#[cfg(any(test, feature = "sabotage"))]
mod planting;
mod props;

#[cfg(any(test, feature = "sabotage"))]
pub use planting::{Planted, plant, planted};
pub use props::{as_hashed, last_answer};

/// Whether this bug is planted: never.
#[cfg(not(any(test, feature = "sabotage")))]
#[must_use]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Makes of each line of the table a variant, and beside it what the simulator is told of it.
macro_rules! bugs {
    ($(
        #[doc = $breaks:literal]
        $bug:ident: $name:literal, [$($checker:literal),+], $scenario:literal;
    )+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug { $(#[doc = $breaks] $bug,)+ }

        #[cfg(any(test, feature = "sabotage"))]
        impl Bug {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// As the command line calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name),+ }
            }

            /// What it breaks, in a line.
            #[must_use]
            pub fn breaks(self) -> &'static str {
                match self { $(Self::$bug => $breaks.trim_ascii()),+ }
            }

            /// The checkers that must catch it: all of them.
            #[must_use]
            pub const fn catchers(self) -> &'static [&'static str] {
                match self { $(Self::$bug => &[$($checker),+]),+ }
            }

            /// The scenario in which they must, without folder and ending.
            #[must_use]
            pub const fn scenario(self) -> &'static str {
                match self { $(Self::$bug => $scenario),+ }
            }
        }
    };
}

bugs! {
    // The disk.
    /// Batches are acknowledged when they are written, not when they are durable.
    AckBeforeFsync: "ack-before-fsync", ["S7"], "first_light";
    /// At its second power cut the machine gets its disk back as it was at the first.
    StaleDisk: "stale-disk", ["S1", "S6", "S7"], "first_light";
    /// A failed fsync is passed over, and the node goes on.
    FsyncErrorIgnored: "fsync-error-ignored", ["expect"], "fsync_error_stops";
    /// A batch that a full disk has refused is answered as done.
    FullDiskAnswered: "full-disk-answered", ["V1"], "disk_full_each_site";
    /// The checksum of a record is not looked at: rotten bytes are served.
    ChecksumUnchecked: "checksum-unchecked", ["audit"], "rot_at_rest";
    /// An entry of the log counts as stored when the disk has it in hand: its effects leave first.
    EventBeforeCommit: "event-before-commit", ["S12", "S7"], "first_light";

    // Uplinks.
    /// The last frame again, a copy or a retransmission, is taken as a new one.
    DedupOff: "dedup-off", ["S6"], "first_light";
    /// A counter up to 16 below the last is taken as new, however often it comes.
    ReplayWindow: "replay-window", ["S6"], "replay_attack";
    /// A frame whose MIC no session made is taken as the first session's.
    MicUnchecked: "mic-unchecked", ["S13"], "replay_attack";
    /// The upper half of the frame counter never advances.
    UpperHalfFrozen: "upper-half-frozen", ["expect"], "fcnt16_wrap";

    // Joins.
    /// The DevNonce is looked at by the proposer alone, and two requests in flight both pass.
    DevNonceOutsideApply: "dev-nonce-outside-apply", ["S4"], "first_light";
    /// Used DevNonces are not remembered: a recorded join-request makes another session.
    DevNonceForgotten: "dev-nonce-forgotten", ["S4"], "replay_attack";
    /// The JoinNonce does not advance: the next join-accept carries it again.
    JoinNonceRepeats: "join-nonce-repeats", ["S5"], "join_storm";

    // Downlinks.
    /// What a start voids of its grants goes back to be granted again.
    GrantGivenBack: "counter-reuse-after-restart", ["S1"], "first_light";
    /// The answer to a retransmission is built anew under the old number.
    RepeatBuiltAnew: "repeat-built-anew", ["S1"], "rough_weather";
    /// When a device starts its counter anew, so does the downlink counter, under the same keys.
    ResetRestartsDownlinks: "reset-restarts-downlinks", ["S1"], "abp_reset";
    /// Downlink numbers are drawn outside their grants, in the order 1, 0, 3, 2.
    CounterOutOfOrder: "counter-out-of-order", ["S3"], "first_light";
    /// An unconfirmed queue item stays queued when it is handed out, and is handed out again.
    ItemHandedOutTwice: "item-handed-out-twice", ["S8"], "first_light";
    /// An unconfirmed queue item goes back into the queue when no gateway reports it as sent.
    RequeuedAfterSilence: "requeued-after-silence", ["S8"], "rough_weather";
    /// A confirmed queue item that the device did not acknowledge is sent again, without end.
    ConfirmedWithoutEnd: "confirmed-without-end", ["S8"], "first_light";
    /// The newest queue item goes first.
    QueueLifo: "queue-lifo", ["S8"], "swarm";
    /// A confirmed uplink is acknowledged at once, whatever waits in the queue: it waits for ever.
    AckStarvesQueue: "ack-starves-queue", ["V7"], "first_light";
    /// A downlink leaves for its window although that is over.
    LateWindow: "late-window", ["V5"], "slow_disk";
    /// No downlink is sent with less than 20 dBm, whatever its frequency allows.
    TooLoud: "too-loud", ["S20"], "first_light";

    // Clients.
    /// A start forgets what waited for the clients that were connected before it.
    QueueLostAtStart: "queue-lost-at-start", ["S19"], "rough_weather";
    /// Persistent sessions are not in the snapshot: a restart forgets them.
    SessionNotInSnapshot: "session-not-in-snapshot", ["S19"], "first_light";
    /// QoS 1 and 2 messages that were under way are not sent again on a new connection.
    NotSentAgain: "not-sent-again", ["S19"], "rough_weather";
    /// A retained message is never replaced.
    RetainedNotReplaced: "retained-not-replaced", ["S19"], "swarm";
    /// Whoever queues a downlink is told that it is done before the log has decided.
    AnswerBeforeCommit: "answer-before-commit", ["S9"], "api_histories";
    /// Calls of the API that only look get what the same call saw the time before.
    StaleRead: "stale-read", ["S9"], "api_histories";

    // Several nodes.
    /// A leader that was restarted goes on in its term, whatever its disk has lost.
    LeaderRestore: "leader-restore", ["S10"], "leader_restore_lost_tail";
    /// A home that takes over begins where the last one's grant began.
    GrantFromLo: "grant-from-lo", ["S2"], "node_dies_between_uplink_and_rx2";
    /// Of several paths to a gateway the oldest counts.
    StalePath: "stale-path", ["V5"], "gateway_moves_node";
    /// A follower answers from its own state, however old that is.
    ReadWithoutBarrier: "read-without-barrier", ["S9"], "cluster_api_histories";
    /// A node that was restarted while it asked to be admitted asks again under another name.
    AdmissionRenamed: "admission-renamed", ["S22"], "joiner_loses_power";
    /// No link says which member it means: who has come back empty answers as the one he was.
    FormerSelf: "former-self", ["S22"], "former_self";
    /// Whoever does not know the cookie is told so.
    StrangerAnswered: "stranger-answered", ["S15"], "dedup_across_nodes";

    // Secrets, bounds, hostile input, determinism.
    /// A key is sealed with itself as the nonce, which stands beside the ciphertext.
    KeyInClear: "key-in-clear", ["S14"], "first_light";
    /// The root key of each device that joins is in a log line.
    SecretInLog: "secret-in-log", ["S14"], "first_light";
    /// A datagram that makes no sense is refused without being counted.
    SilentRefusal: "silent-refusal", ["refusals"], "malformed_flood";
    /// Every unregistered gateway that ever spoke is remembered.
    UnknownGatewaysUnbounded: "unknown-gateways-unbounded", ["S21"], "replay_attack";
    /// The task that writes to a connection outlives it.
    ConnectionLeak: "connection-leak", ["S21"], "clients_come_and_go";
    /// A gateway's datagram that is not UTF-8 panics.
    PanicOnInput: "panic-on-input", ["S22"], "rough_weather";
    /// What an entry has changed is told in the order of a hash that differs between processes.
    HashOrder: "hash-order", ["S23"], "first_light";
}
