//! An error with what it came from, in one line.
//!
//! Owns how a chain of causes is walked and told. What may be shown of it, and how long it may be,
//! is for who shows it.

use std::{error::Error, io};

/// An error and its causes, the root cause last.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error)).collect()
}

/// An I/O error leaves out what it is made of, and gives the source of that.
fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// An error and its causes in one line. Many errors name their cause themselves; it is not said
/// twice.
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    causes(error).into_iter().fold(String::new(), |mut told, cause| {
        let cause = cause.to_string();
        if !told.ends_with(&cause) {
            let colon = if told.is_empty() { "" } else { ": " };
            told.extend([colon, &cause]);
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = io::Error::from(io::ErrorKind::NotFound);
        let error = anyhow::Error::new(cause).context("cannot read it: entity not found");
        let error = error.context("starting");
        assert_eq!(in_one_line(error.as_ref()), "starting: cannot read it: entity not found");
    }

    #[test]
    fn what_an_io_error_is_made_of_is_a_cause() {
        let inner = io::Error::other("unknown issuer");
        let error = anyhow::Error::new(io::Error::other(inner)).context("cannot connect");
        assert_eq!(in_one_line(error.as_ref()), "cannot connect: unknown issuer");
        assert_eq!(causes(error.as_ref()).len(), 4);
    }
}
