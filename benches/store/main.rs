//! What the store does under load, beside what the disk allows. docs/PERFORMANCE.md tells what
//! came of it.
//!
//! `cargo bench --bench store [-- speed|churn|backlog [EVENTS]]`. Without EVENTS the form is short
//! (seconds, for CI); the published figures are for 5000000.

#![expect(clippy::print_stdout, reason = "the result is for a person")]
#![expect(clippy::disallowed_methods, reason = "the tasks end with the measurement")]

// The program's.
#[path = "../../src/allocator.rs"]
mod allocator;
mod backlog;
mod bare;
mod churn;
mod measure;
mod speed;

use tokio::runtime::Runtime;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Runtime::new()?;
    let number = |text: &str| text.replace('_', "").parse::<u64>();
    match arguments[..] {
        ["speed"] => runtime.block_on(speed::run(1, 2)),
        ["speed", rounds] => runtime.block_on(speed::run(number(rounds)?, 3)),
        ["churn"] => churn::run(200_000),
        ["churn", events] => churn::run(number(events)?),
        ["churn-at", depth, events] => {
            runtime.block_on(churn::at_depth(number(depth)?, number(events)?))
        }
        ["bare-file", path] => runtime.block_on(churn::bare_file(path.as_ref())),
        ["backlog"] => runtime.block_on(backlog::run(200_000)),
        ["backlog", events] => runtime.block_on(backlog::run(number(events)?)),
        ["fill", directory, events] => {
            runtime.block_on(backlog::fill(directory.as_ref(), number(events)?))
        }
        [] => {
            runtime.block_on(speed::run(1, 1))?;
            churn::run(100_000)?;
            runtime.block_on(backlog::run(100_000))
        }
        _ => anyhow::bail!("speed [ROUNDS], churn [EVENTS] or backlog [EVENTS]"),
    }
}
