//! The `tern` command under the tests' own build profile, so that process tests build nothing
//! twice.

fn main() -> std::process::ExitCode {
    server::main()
}
