//! Reading a whole store and judging it, and making a good one of what is whole.
//!
//! Works on a copy: sled changes files when it opens them, and what it does to damaged ones can
//! make them worse. Nothing of the store itself is changed by a verification, and a repair keeps
//! the old store aside.

mod case;
mod pieces;
mod rebuild;
mod report;

use std::path::Path;

use self::case::Case;
pub use self::report::{HandlerCursor, Holds, Report};
use crate::{clock::Timestamp, name::HandlerName, store::Error};

/// Reads and judges the store in `directory`, and says what a repair would do.
pub fn verify(directory: &Path, handlers: &[HandlerName]) -> Result<Report, Error> {
    let (case, mut report) = Case::open(directory)?;
    if !report.whole {
        rebuild::plan(&case, handlers, &mut report)?;
    }
    case.close()?;
    Ok(report)
}

/// The same, and if something is wrong, makes a good store of what is whole.
pub fn repair(directory: &Path, handlers: &[HandlerName], now: Timestamp) -> Result<Report, Error> {
    let (case, mut report) = Case::open(directory)?;
    if !report.whole {
        rebuild::repair(&case, handlers, now, &mut report)?;
    }
    case.close()?;
    Ok(report)
}
