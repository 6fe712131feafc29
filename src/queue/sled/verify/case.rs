//! A store that is being looked at: locked, copied, read, and judged.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{
    report::{self, Report},
    scan,
};
use crate::{
    name::HandlerName,
    queue::sled::{
        keys,
        load::{Collected, Depth, Survey, walk},
        write::high_water::{self, HighWater},
    },
    store::{Directory, Error, View, directory, disk::words, inspect::Copy},
};

/// A store that is being looked at: locked, and copied.
pub(super) struct Case {
    pub(super) directory: Directory,
    pub(super) mark: Option<HighWater>,
    pub(super) report: Report,
    pub(super) evidence: Evidence,
    /// What a search of the files finds, for what sled does not.
    pub(super) spare: Option<scan::Pieces>,
    pub(super) copy: Copy,
}

/// Where what is whole can be had from.
pub(super) enum Evidence {
    /// sled reads the copy.
    Database(View, Box<Survey>, Collected),
    /// It cannot; its files were searched.
    Files(Box<scan::Pieces>),
}

impl Case {
    pub(super) fn open(path: &Path, handlers: &[HandlerName]) -> Result<Self, Error> {
        let directory = Directory::claim_existing(path)?;
        let mut report = Report::default();
        let mark = match high_water::read(directory.path())? {
            Some(Ok(mark)) => Some(mark),
            Some(Err(error)) => {
                report.fault(format!("the high-water file cannot be read: {error}"));
                None
            }
            None => None,
        };
        let copy = Copy::make(&directory)?;
        copy.faults.iter().for_each(|fault| report.fault(fault.clone()));
        let evidence = Self::evidence(&directory, &copy, mark.as_ref(), &mut report)?;
        let spare = match &evidence {
            Evidence::Database(_, survey, faults) => {
                report::tell(survey, faults, mark.as_ref(), &mut report);
                let searched = !report.faults.is_empty();
                let spare = searched.then(|| search(&directory, mark.as_ref())).transpose()?;
                if let Some(pieces) = &spare {
                    let found = |first, end| pieces.count_between(first, end);
                    report::plan((survey, faults), found, mark.as_ref(), &mut report);
                }
                spare
            }
            Evidence::Files(pieces) => {
                pieces.tell(mark.as_ref(), handlers, &mut report);
                None
            }
        };
        report.whole = report.faults.is_empty();
        Ok(Self { directory, mark, report, evidence, spare, copy })
    }

    fn evidence(
        directory: &Directory,
        copy: &Copy,
        mark: Option<&HighWater>,
        report: &mut Report,
    ) -> Result<Evidence, Error> {
        let was_used = directory.store().were_used() || mark.is_some();
        let limit = directory::patience(directory.path());
        let mut looked = look(copy, limit);
        if looked.is_err() {
            // A snapshot only spares reading the log; without it sled reads all of that.
            copy.remove_snapshots()?;
            looked = look(copy, limit);
        }
        match looked {
            Ok((_, survey, _)) if was_used && report::is_empty(&survey) => {
                report.fault("sled finds nothing in the database".to_owned());
                Ok(Evidence::Files(Box::new(search(directory, mark)?)))
            }
            Ok((view, survey, faults)) => {
                report.opens = true;
                // One that is damaged was told with the write-ahead log, which it ties to the trees.
                let id = match view.store_id() {
                    Err(Error::Damaged(_)) => None,
                    id => id?,
                };
                if mark.zip(id).is_some_and(|(mark, id)| mark.store != id) {
                    let words = "the high-water file is of another store than the database";
                    report.fault(words.to_owned());
                }
                Ok(Evidence::Database(view, Box::new(survey), faults))
            }
            Err(why) if why.is_curable() || matches!(why, Error::Version(_)) => Err(why),
            Err(why) => {
                report.fault(format!("sled cannot open the database: {}", short(&why)));
                Ok(Evidence::Files(Box::new(search(directory, mark)?)))
            }
        }
    }
}

/// Searches the files themselves, which sled has not touched.
fn search(directory: &Directory, mark: Option<&HighWater>) -> Result<scan::Pieces, Error> {
    let files = directory.store();
    Ok(scan::scan(&[files.database().join("db"), files.wal()], mark)?)
}

fn short(why: &Error) -> String {
    match why {
        Error::Damaged(why) => why.clone(),
        other @ (Error::Locked(_)
        | Error::Io(_)
        | Error::Version(_)
        | Error::Stuck(_)
        | Error::Panicked(_)) => other.to_string(),
    }
}

/// Opens the copy and reads it, on a thread of its own: sled can panic or hang on damaged files.
fn look(copy: &Copy, limit: Duration) -> Result<(View, Survey, Collected), Error> {
    let (tell, hear) = mpsc::sync_channel(1);
    let copy = copy.clone();
    thread::Builder::new().name("store-verify".into()).spawn(move || {
        let read = || -> Result<(View, Survey, Collected), Error> {
            let (view, words) = copy.open(keys::LAYOUT)?;
            let mut faults = Collected { words, ..Collected::default() };
            let survey = walk(&view, Depth::All, &mut faults)?;
            Ok((view, survey, faults))
        };
        let result = catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|panic| Err(Error::Panicked(words(&*panic))));
        drop(tell.send(result));
    })?;
    hear.recv_timeout(limit).unwrap_or(Err(Error::Stuck(limit.as_secs())))
}
