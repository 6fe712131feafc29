//! Reading a whole store and judging it, and making a good one of what is whole.
//!
//! Works on a copy: sled changes files when it opens them, and what it does to damaged ones can
//! make them worse. Nothing of the store itself is changed by a verification, and a repair keeps
//! the old store aside.

mod case;
mod rebuild;
mod report;
mod salvage;
mod scan;

use std::path::Path;

use self::case::Case;
pub use self::report::{HandlerCursor, Holds, Report};
use crate::{clock::Timestamp, name::HandlerName, store::Error};

/// Reads and judges the store in `directory`, and says what a repair would do.
pub fn verify(directory: &Path, handlers: &[HandlerName]) -> Result<Report, Error> {
    let Case { copy, report, evidence, .. } = Case::open(directory, handlers)?;
    drop(evidence);
    copy.remove()?;
    Ok(report)
}

/// The same, and if something is wrong, makes a good store of what is whole.
pub fn repair(directory: &Path, handlers: &[HandlerName], now: Timestamp) -> Result<Report, Error> {
    let mut case = Case::open(directory, handlers)?;
    if !case.report.whole {
        case.report.kept_aside = Some(rebuild::rebuild(&case, handlers, now)?);
    }
    let Case { copy, report, evidence, .. } = case;
    drop(evidence);
    copy.remove()?;
    Ok(report)
}
