//! The `tern` command.

fn main() -> std::process::ExitCode {
    server::main()
}
