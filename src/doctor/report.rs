//! What an examination found.

use std::fmt;

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// A person must do something.
    Bad,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        })
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// Of what, where a check looks at several things.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, or why nothing was.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    fn new(check: &'static str, outcome: Outcome, seen: impl Into<String>) -> Self {
        Self { check, of: None, outcome, seen: seen.into(), cure: None }
    }

    /// As it should be.
    pub fn good(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Good, seen)
    }

    /// A person must do something.
    pub fn bad(check: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..Self::new(check, Outcome::Bad, seen) }
    }

    /// It could not be looked at.
    pub fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skipped, why)
    }

    /// Of this one of several things.
    #[must_use]
    pub fn of(self, of: impl Into<String>) -> Self {
        Self { of: Some(of.into()), ..self }
    }
}

impl fmt::Display for Finding {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}", self.outcome, self.check)?;
        if let Some(of) = &self.of {
            write!(f, " ({of})")?;
        }
        write!(f, ": {}", self.seen)?;
        match &self.cure {
            Some(cure) => write!(f, "; to do: {cure}"),
            None => Ok(()),
        }
    }
}

/// All findings, each told as it comes.
pub struct Report<'t> {
    findings: Vec<Finding>,
    tell: &'t mut (dyn FnMut(&Finding) + Send),
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("findings", &self.findings).finish_non_exhaustive()
    }
}

impl<'t> Report<'t> {
    /// An empty one, which tells `tell` of each finding.
    pub fn new(tell: &'t mut (dyn FnMut(&Finding) + Send)) -> Self {
        Self { findings: Vec::new(), tell }
    }

    /// One more; whether it is good.
    pub fn add(&mut self, finding: Finding) -> bool {
        let good = finding.outcome == Outcome::Good;
        (self.tell)(&finding);
        self.findings.push(finding);
        good
    }

    /// All of them, in the order in which they were made.
    pub fn findings(self) -> Vec<Finding> {
        self.findings
    }
}
