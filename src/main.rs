//! The `ringway` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: ringway::rt::memory::Allocator = ringway::rt::memory::Allocator;

fn main() -> ExitCode {
    ringway::cli::main()
}
