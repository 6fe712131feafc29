//! The `brevdue` program; all of it is in the library.

use std::process::ExitCode;

/// Events are made on one thread and let go of on another, all day long. The C library's allocator
/// keeps an arena for each thread, and gives little of that back; docs/PERFORMANCE.md has figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    brevdue::cli::main()
}
