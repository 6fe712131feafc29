//! Reading a whole store and judging it, and making a good one of what is whole.
//!
//! Works on a copy: sled changes files when it opens them, and what it does to damaged ones can
//! make them worse. Nothing of the store itself is changed by a verification, and a repair keeps
//! the old database aside.

mod carry;
mod check;
mod copy;
mod identities;
mod salvage;
mod scan;
mod telling;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::Serialize;

use self::check::Found;
use super::{
    OpenError,
    database::Db,
    disk::{Place, open_when_free, remove_snapshots, words},
    entry::Identity,
    journal::{self, Contents, Owner},
    keys,
    mark::{Mark, MarkFile},
    segments,
};
use crate::{clock::Timestamp, name::HandlerName};

/// Faults that are told one by one.
const TOLD: usize = 1000;

/// What a store holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub whole: bool,
    /// sled finds something in the database; otherwise its file was searched for what is whole.
    pub opens: bool,
    /// What is whole.
    pub holds: Holds,
    /// What is wrong, in words.
    pub faults: Vec<String>,
    /// So many more things are wrong than `faults` tells.
    pub more_faults: u64,
    /// What a repair would do, or did.
    pub repair: Vec<String>,
    /// Where the damaged database is kept, after a repair.
    pub kept_aside: Option<PathBuf>,
}

/// Counts of what is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Events in the log.
    pub events: u64,
    /// Of them, those that are kept in parts.
    pub large_events: u64,
    /// Numbers whose events a former repair could not find.
    pub lost_before: u64,
    /// The number of the first event in the log, or that will be in it.
    pub oldest: u64,
    /// The number that the next event gets.
    pub next: u64,
    /// Identities remembered.
    pub dedup_ids: u64,
    /// Places of handlers.
    pub handlers: Vec<HandlerPlace>,
    /// Waiting retries.
    pub retries: u64,
    /// Dead letters of handlers.
    pub dead_letters: u64,
    /// Undecodable pushes.
    pub undecodable: u64,
}

/// A handler's place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandlerPlace {
    /// Which.
    pub name: String,
    /// Events in the log that it has not settled.
    pub pending: u64,
}

impl Report {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }
}

/// A store that is being looked at: locked, and copied.
struct Case {
    place: Place,
    mark: Option<Mark>,
    report: Report,
    evidence: Evidence,
    /// What a search of the file finds, for what sled does not.
    spare: Option<scan::Pieces>,
}

/// Where what is whole can be had from.
enum Evidence {
    /// sled reads the copy.
    Database(Db, Box<Found>),
    /// It cannot; its file was searched.
    File(Box<scan::Pieces>),
}

/// Reads and judges the store in `directory`, and says what a repair would do.
pub fn verify(directory: &Path, handlers: &[HandlerName]) -> Result<Report, OpenError> {
    let case = Case::open(directory, handlers)?;
    let directory = case.place.directory().to_owned();
    let report = case.report.clone();
    drop(case);
    copy::remove(&directory)?;
    Ok(report)
}

/// The same, and if something is wrong, makes a good store of what is whole.
pub fn repair(
    directory: &Path,
    handlers: &[HandlerName],
    now: Timestamp,
) -> Result<Report, OpenError> {
    let case = Case::open(directory, handlers)?;
    let mut report = case.report.clone();
    if !report.whole {
        report.kept_aside = Some(carry::carry(&case, handlers, now)?);
    }
    let directory = case.place.directory().to_owned();
    drop(case);
    copy::remove(&directory)?;
    Ok(report)
}

impl Case {
    fn open(directory: &Path, handlers: &[HandlerName]) -> Result<Self, OpenError> {
        let place = Place::claim_existing(directory)?;
        let mut report = Report::default();
        let mark = match MarkFile::open(place.directory())?.read()? {
            Some(Ok(mark)) => Some(mark),
            Some(Err(error)) => {
                report.fault(format!("the high-water file cannot be read: {error}"));
                None
            }
            None => None,
        };
        let evidence = Self::evidence(&place, mark.as_ref(), &mut report)?;
        let spare = match &evidence {
            Evidence::Database(_, found) => {
                found.tell(mark.as_ref(), &mut report);
                let searched = (!report.faults.is_empty()).then(|| search(&place, mark.as_ref()));
                let spare = searched.transpose()?;
                if let Some(pieces) = &spare {
                    found.plan(pieces, mark.as_ref(), &mut report);
                }
                spare
            }
            Evidence::File(pieces) => {
                pieces.tell(mark.as_ref(), handlers, &mut report);
                None
            }
        };
        report.whole = report.faults.is_empty();
        Ok(Self { place, mark, report, evidence, spare })
    }

    fn evidence(
        place: &Place,
        mark: Option<&Mark>,
        report: &mut Report,
    ) -> Result<Evidence, OpenError> {
        let copied = copy::copy(place)?;
        if let Some(blob) = &copied.blob {
            report.fault(format!("{} should not be there: sled does not sync it", blob.display()));
        }
        if segments::is_lost(&place.database())? {
            report.fault("sled's file conf is missing or cannot be read".to_owned());
            copy::remove_conf(&copied)?;
        }
        let look = || look(&copied.database, place.directory(), place.patience());
        let mut opened = look();
        if opened.is_err() {
            // A snapshot only spares reading the log; without it sled reads all of that.
            remove_snapshots(&copied.database)?;
            opened = look();
        }
        match opened {
            Ok((_, found)) if found.is_empty() && place.was_opened_before() => {
                report.fault("sled finds nothing in the database".to_owned());
                Ok(Evidence::File(Box::new(search(place, mark)?)))
            }
            Ok((db, found)) => {
                report.opens = true;
                Ok(Evidence::Database(db, Box::new(found)))
            }
            Err(why) if why.is_curable() || matches!(why, OpenError::Version(_)) => Err(why),
            Err(why) => {
                report.fault(format!("sled cannot open the database: {}", short(&why)));
                Ok(Evidence::File(Box::new(search(place, mark)?)))
            }
        }
    }
}

/// Searches the files themselves, which sled has not touched.
fn search(place: &Place, mark: Option<&Mark>) -> io::Result<scan::Pieces> {
    scan::scan(&[place.database().join("db"), journal::path(place.directory())], mark)
}

fn short(why: &OpenError) -> String {
    match why {
        OpenError::Damaged(why) => why.clone(),
        other @ (OpenError::Locked(_)
        | OpenError::Io(_)
        | OpenError::Version(_)
        | OpenError::Stuck(_)
        | OpenError::NotDurable) => other.to_string(),
    }
}

/// Opens the copy, gives it what the journal has, and reads it, on a thread of its own: sled can
/// panic or hang on damaged files.
fn look(database: &Path, directory: &Path, limit: Duration) -> Result<(Db, Found), OpenError> {
    let (tell, hear) = mpsc::sync_channel(1);
    let (database, directory) = (database.to_owned(), directory.to_owned());
    thread::Builder::new().name("store-verify".into()).spawn(move || {
        let read = || -> Result<(Db, Found), OpenError> {
            let db = open_when_free(&database)?;
            let faults = with_the_journal(&db, &directory)?;
            let segment = segments::noted(&database)?.unwrap_or(segments::SEGMENT_SIZE);
            let mut found = check::check(&db, segments::largest_entry(segment))?;
            for fault in faults {
                found.faults.fault(fault);
            }
            Ok((db, found))
        };
        let result = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
            Err(OpenError::Damaged(format!("sled panicked: {}", words(&*panic))))
        });
        drop(tell.send(result));
    })?;
    hear.recv_timeout(limit).unwrap_or(Err(OpenError::Stuck(limit.as_secs())))
}

/// Gives sled what the journal has, as far as it belongs to it; what is wrong with the journal.
fn with_the_journal(db: &Db, directory: &Path) -> Result<Vec<String>, OpenError> {
    let Some(Ok(identity)) = db.get(keys::STORE)?.map(|value| Identity::decode(&value)) else {
        return Ok(Vec::new());
    };
    let Ok(noted) = journal::noted(db) else {
        return Ok(vec!["what the database notes of its journal cannot be read".into()]);
    };
    let contents = Contents::read(directory, Owner { store: identity.store, noted })?;
    if contents.is_ours() {
        for entries in &contents.commits {
            db.apply(entries)?;
        }
    }
    Ok(contents.faults)
}

fn other(words: String) -> OpenError {
    OpenError::Io(io::Error::other(words))
}
