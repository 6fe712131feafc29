//! The policy decision point: a table instead of XACML.

use crate::simulator::options::{Decision, Options};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(in crate::simulator) struct Question<'q> {
    pub(in crate::simulator) consumer: &'q str,
    pub(in crate::simulator) resource: &'q str,
    pub(in crate::simulator) subject: Option<&'q str>,
}

/// The first row that matches decides: those set at run time, those of the options. Without one, a
/// listed resource is permitted, but only a service owner may leave out the subject.
pub(in crate::simulator) fn permits(
    options: &Options,
    first: &[Decision],
    question: Question<'_>,
) -> bool {
    let matches = |row: &&Decision| {
        row.resource == question.resource
            && row.consumer.as_deref().is_none_or(|consumer| consumer == question.consumer)
            && (row.subject.is_none() || row.subject.as_deref() == question.subject)
    };
    let listed = || options.resources.iter().any(|known| known == question.resource);
    let whose = || question.subject.is_some() || question.consumer.starts_with("/org/");
    match first.iter().chain(&options.decisions).find(matches) {
        Some(row) => row.permit,
        None => listed() && whose(),
    }
}
