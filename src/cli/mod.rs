//! The command line.

pub mod check;
pub mod explain;
pub mod schema;

use std::process::ExitCode;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
