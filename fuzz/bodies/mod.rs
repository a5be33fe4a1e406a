//! What each fuzz target does with its bytes. Plain functions without a fuzzer, so that the
//! committed corpus is replayed on stable too; they panic where a promise is broken.
//!
//! To add a target: its file here, a line in [`TARGETS`], a file under `fuzz_targets/` with its
//! `[[bin]]`, and a folder under `corpus/`.

pub mod commands;
pub mod mac_commands;
pub mod mqtt_packet;
pub mod peer_frames;
pub mod peer_messages;
pub mod phy_payload;
pub mod scenario;
pub mod semtech_udp;

/// One target's name, which is its corpus folder's too, and what it does with its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("commands", commands::run),
    ("mac_commands", mac_commands::run),
    ("mqtt_packet", mqtt_packet::run),
    ("peer_frames", peer_frames::run),
    ("peer_messages", peer_messages::run),
    ("phy_payload", phy_payload::run),
    ("scenario", scenario::run),
    ("semtech_udp", semtech_udp::run),
];

/// Corpus files that are told in a source file: the target's name, and each file's name and bytes.
pub fn told_files() -> impl Iterator<Item = (&'static str, String, Vec<u8>)> {
    let stories = commands::stories::files().map(|(name, bytes)| ("commands", name, bytes));
    let frames = peer_frames::files().map(|(name, bytes)| ("peer_frames", name, bytes));
    let messages = peer_messages::files().map(|(name, bytes)| ("peer_messages", name, bytes));
    let scenarios = scenario::files().map(|(name, bytes)| ("scenario", name, bytes));
    stories.chain(frames).chain(messages).chain(scenarios)
}
