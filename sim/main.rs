//! `cargo sim`: the command line of the simulator. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
