//! `cargo sim`: the command line of the simulator. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(madsim)]
    return sim::cli::main();
    #[cfg(not(madsim))]
    ExitCode::FAILURE
}
