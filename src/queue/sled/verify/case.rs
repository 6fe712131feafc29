//! A store that is being looked at: locked, copied, read, judged; and searched, if something is wrong.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{pieces::Pieces, report::Report};
use crate::{
    queue::sled::{
        codec::{IDS, KEY, Value, values::DedupKey},
        keys,
        load::{Depth, Survey, walk},
        read_error::whole_at_rest,
        write::high_water::{self, HighWater},
    },
    store::{Directory, Error, Layout, StoreId, View, directory, disk::words, inspect::Copy},
};

/// A way to open a copy.
type Open = fn(&Copy, Layout) -> Result<(View, Vec<String>), Error>;

/// A store that is being looked at, and where what is whole in it can be had from.
pub(super) struct Case {
    pub(super) directory: Directory,
    pub(super) mark: Option<HighWater>,
    /// What sled finds in the copy; `None` if it cannot open that, or finds nothing.
    pub(super) survey: Option<Survey>,
    /// What sled finds can be older than what it had: cursors can be missing without a trace.
    pub(super) is_older: bool,
    /// What a search of the files finds beside that; nothing in a whole store.
    pub(super) pieces: Pieces,
    copy: Copy,
}

impl Case {
    /// Locks and judges the store in this directory.
    pub(super) fn open(path: &Path) -> Result<(Self, Report), Error> {
        let directory = Directory::claim_existing(path)?;
        let mut report = Report::default();
        let mut mark = high_water::read(directory.path())?.transpose().unwrap_or_else(|error| {
            report.fault(format!("the high-water file cannot be read: {error}"));
            None
        });
        let copy = Copy::make(&directory)?;
        copy.faults.iter().for_each(|fault| report.fault(fault.clone()));
        let mut is_older = false;
        let was_used = directory.store().were_used() || mark.is_some();
        let survey = match survey(&copy, directory::patience(directory.path())) {
            Ok((survey, _)) if was_used && survey.view.entries().next().is_none() => {
                report.fault("sled finds nothing in the database".to_owned());
                None
            }
            Ok((survey, older)) => {
                // An id that is damaged was told with the write-ahead log, which it ties to the trees.
                let id = match survey.view.store_id() {
                    Err(Error::Damaged(_)) => None,
                    id => id?,
                };
                if let Some((mark, id)) = mark.as_mut().zip(id)
                    && mark.store != id
                {
                    let words = "the high-water file is of another store than the database";
                    report.fault(words.to_owned());
                    // It says nothing about the handlers of this one.
                    mark.low = 1;
                }
                report.tell(&survey, mark.as_ref());
                is_older = older || mark.as_ref().is_some_and(|mark| mark.count > survey.noted);
                Some(survey)
            }
            Err(why) if why.is_curable() || matches!(why, Error::Version(_)) => return Err(why),
            Err(why) => {
                let why = if let Error::Damaged(why) = why { why } else { why.to_string() };
                report.fault(format!("sled cannot open the database: {why}"));
                None
            }
        };
        report.whole = report.faults.is_empty();
        let mut pieces = Pieces::default();
        if !report.whole {
            // The files themselves, which sled has not touched.
            let files = directory.store();
            let files = [files.database().join("db"), files.wal()];
            pieces = Pieces::search(&files, mark.as_ref().map_or(0, |mark| mark.low))?;
        }
        Ok((Self { directory, mark, survey, is_older, pieces, copy }, report))
    }

    /// Removes the copy.
    pub(super) fn close(self) -> Result<(), Error> {
        drop((self.survey, self.pieces));
        self.copy.remove()
    }

    /// The store's id, if it is known.
    pub(super) fn id(&self) -> Option<StoreId> {
        let known = self.survey.as_ref().and_then(|survey| survey.view.store_id().ok().flatten());
        known.or(self.mark.as_ref().map(|mark| mark.store))
    }

    /// The dedup key, if it is known.
    pub(super) fn key(&self) -> Option<DedupKey> {
        let found = || self.pieces.all(KEY, 0..1).next()?.ok();
        let known = self.survey.as_ref().and_then(|survey| survey.key);
        known.or_else(|| DedupKey::decode(&found()?).ok())
    }

    /// Runs of ids that sled finds, or a search of the files.
    pub(super) fn runs(&self) -> Box<dyn Iterator<Item = Result<Vec<u8>, Error>> + '_> {
        if self.survey.is_none() {
            return Box::new(self.pieces.all(IDS, 0..u64::MAX));
        }
        Box::new(self.entries(&[keys::IDS, b'|']).map(|entry| entry.map(|(_, value)| value)))
    }

    /// The entries that sled finds, but for those that are not as they were written. Their values are
    /// whole: parts come with what they are of.
    pub(super) fn entries(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        self.survey.iter().flat_map(move |survey| {
            survey.view.scan_prefix(prefix).filter_map(|entry| {
                let (key, value) = match entry {
                    Ok(entry) if survey.bad.contains(&*entry.0) => return None,
                    Ok(entry) => entry,
                    Err(error) => return Some(Err(error)),
                };
                match whole_at_rest(&survey.view, &key, &value) {
                    Ok(whole) => whole.ok().map(|whole| Ok((key.to_vec(), whole.into_owned()))),
                    Err(error) => Some(Err(error)),
                }
            })
        })
    }
}

/// What sled finds in the copy, and whether that can be older than what it had. If it cannot read all of that, a page is damaged, whatever is found
/// then: all the rest; or what sled finds without its snapshot, in all of its log, where it passes by
/// what is damaged. That can be older, and whole with what the write-ahead log has.
fn survey(copy: &Copy, limit: Duration) -> Result<(Survey, bool), Error> {
    let why = match read(copy, limit, Copy::open) {
        Err(Error::Damaged(why) | Error::Panicked(why)) => why,
        read => return read.map(|survey| (survey, false)),
    };
    let readable = read(copy, limit, Copy::open_readable).map(|survey| (survey, false));
    let (mut survey, is_older) = readable.or_else(|_| {
        copy.remove_snapshots()?;
        read(copy, limit, Copy::open).map(|survey| (survey, true))
    })?;
    survey.faults.insert(0, format!("sled cannot read all of the database: {why}"));
    Ok((survey, is_older))
}

/// Opens the copy and reads it, on a thread of its own: sled can panic or hang on damaged files.
fn read(copy: &Copy, limit: Duration, open: Open) -> Result<Survey, Error> {
    let (tell, hear) = mpsc::sync_channel(1);
    let copy = copy.clone();
    thread::Builder::new().name("store-verify".into()).spawn(move || {
        let read = || -> Result<Survey, Error> {
            let (view, faults) = open(&copy, keys::LAYOUT)?;
            let mut survey = walk(view, Depth::All)?;
            survey.faults.splice(..0, faults);
            Ok(survey)
        };
        let result = catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|panic| Err(Error::Panicked(words(&*panic))));
        drop(tell.send(result));
    })?;
    hear.recv_timeout(limit).unwrap_or(Err(Error::Stuck(limit.as_secs())))
}
