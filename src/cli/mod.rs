//! The command line.

#[cfg(feature = "lab")]
pub mod lab;

/// Runs the command that the arguments name; its exit code is documented with each command.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
