//! Arbitrary bytes as MAC commands of either direction: the walk ends, what it yields fits what it
//! read, and what is written from it is read alike.

use std::fmt::Debug;

use lorawan::{DownlinkMacCommand, MacCommand, UplinkMacCommand};

/// Walks the block as commands from a device and as commands to one.
pub fn run(bytes: &[u8]) {
    walk::<UplinkMacCommand>(bytes);
    walk::<DownlinkMacCommand>(bytes);
}

fn walk<C: MacCommand + PartialEq + Debug>(block: &[u8]) {
    let mut commands = Vec::new();
    let mut read = 0;
    let mut walked = C::walk(block);
    while let Some(item) = walked.next() {
        let Ok(command) = item else {
            assert!(walked.next().is_none(), "nothing comes after an error");
            break;
        };
        let len = command.encoded_len();
        assert_eq!(block[read], command.cid());
        read += len;
        assert_eq!(block.len() - walked.left(), read, "a command is as long as what it was");
        commands.push(command);
    }
    let written = C::encode_all(&commands);
    let again: Vec<C> = C::walk(&written).map(|item| item.expect("our own bytes")).collect();
    assert_eq!(again, commands);
    assert_eq!(C::encode_all(&again), written);
}
