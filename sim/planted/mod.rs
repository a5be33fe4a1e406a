//! What planted bugs do, seen with the naked eye: the same few steps on a healthy node and on one
//! with the bug, and where they part.
//!
//! `cargo sim sabotage` asks whether the checkers see; this asks, in milliseconds, whether there is
//! something to be seen. A bug that a whole run already shows here and now has no test here.

mod bench;
mod clients;
mod disk;
mod downlinks;
mod frames;
mod secrets;
mod tasks;

use sabotage::Bug;

/// What `look` sees on a healthy node, and with the bug planted.
fn both<T>(bug: Bug, look: impl Fn() -> T) -> (T, T) {
    let healthy = look();
    let _planted = sabotage::plant(bug);
    (healthy, look())
}
