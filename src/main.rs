//! The `brevdue` program; all of it is in the library.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    brevdue::cli::main()
}
