//! Bounds of everything that grows, by name. Each is part of what apply means: changing one is a
//! change of meaning and needs a feature level.

use clock::Duration;

/// The highest feature level this binary understands.
pub const FEATURE_LEVEL: u32 = 2;
/// Longest encoded entry of the log, in bytes.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// Most leader time that one entry may add, in microseconds: a paused leader is not an hour late.
pub const ELAPSED_MICROS_MAX: u64 = 60_000_000;
/// Answers kept for retries of what is not about a frame.
pub const REPLIES_MAX: usize = 16_384;
/// Live members of a cluster.
pub const MEMBERS_MAX: usize = 9;
/// Tombstones of members; beyond, the oldest go.
pub const REVOKED_MAX: usize = 1_000;
/// Downlinks waiting for one device.
pub const DEVICE_QUEUE_MAX: usize = 256;
/// Longest application payload of a downlink in bytes: N of any data rate of any region.
pub const DOWNLINK_BYTES_MAX: usize = 242;
/// Ended sessions whose downlink numbers are remembered.
pub const RETIRED_MAX: usize = 100_000;
/// Age at which event rows go.
pub const EVENT_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Bytes of event rows kept.
pub const EVENT_BYTES_MAX: u64 = 1 << 30;
/// Event rows go in pieces of at most so many bytes..
pub const EVENT_PIECE_BYTES: u64 = 4 << 20;
/// ..and of at most so much time.
pub const EVENT_PIECE_AGE: Duration = Duration::from_secs(3_600);
/// Persistent MQTT sessions.
pub const CLIENT_SESSIONS_MAX: usize = 10_000;
/// Subscriptions of one persistent session.
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// Messages waiting for one persistent session; beyond it the oldest goes and is counted.
pub const SESSION_QUEUE_MAX: usize = 1_000;
/// Bytes of clients' messages waiting for persistent sessions, each message counted once.
pub const QUEUED_BYTES_MAX: u64 = 64 << 20;
/// Topics with a retained message.
pub const RETAINED_MAX: usize = 20_000;
/// Bytes of retained messages.
pub const RETAINED_BYTES_MAX: u64 = 64 << 20;
