//! Reports: what became of slices, and how long it took.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

/// What became of all slices.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Each of them, in their order.
    pub slices: Vec<SliceReport>,
    /// How long it took.
    pub profile: Profile,
}

/// What became of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SliceReport {
    /// The slice.
    pub slice: String,
    /// What was done.
    pub action: Action,
    /// Whether it would only have been done.
    pub dry_run: bool,
    /// The append dimension.
    pub dimension: String,
    /// Its first index with the slice; its length, if the slice was left out.
    pub start: u64,
    /// Indices of the slice.
    pub length: u64,
    /// The first and the last label.
    pub labels: Option<(String, String)>,
    /// Variables that the slice does not have, and that are missing values now.
    pub filled: Vec<String>,
    /// The version of the target with it.
    pub version: Option<u64>,
}

/// What was done with a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The target was made of it.
    Created,
    /// It was appended.
    Appended,
    /// It was there already.
    Skipped,
}

/// How long things took, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Slices that were looked at.
    pub slices: u64,
    /// Opening slices, and waiting for them.
    pub open: f64,
    /// Locking the target, and reading what it is.
    pub begin: f64,
    /// Comparing slices with it.
    pub check: f64,
    /// Reading slices, and writing them where nobody sees it.
    pub copy: f64,
    /// Making that seen.
    pub commit: f64,
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Begin,
    Check,
    Copy,
    Commit,
}

impl Profile {
    #[expect(clippy::unused_self, reason = "it reads as what it is")]
    pub(super) fn start(&self) -> Instant {
        Instant::now()
    }

    pub(super) fn end(&mut self, phase: Phase, started: Instant) {
        let of = match phase {
            Phase::Open => &mut self.open,
            Phase::Begin => &mut self.begin,
            Phase::Check => &mut self.check,
            Phase::Copy => &mut self.copy,
            Phase::Commit => &mut self.commit,
        };
        *of += Duration::as_secs_f64(&started.elapsed());
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} slices: open {:.3} s, begin {:.3} s, check {:.3} s, copy {:.3} s, commit {:.3} s",
            self.slices, self.open, self.begin, self.check, self.copy, self.commit
        )
    }
}

impl fmt::Display for SliceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = if self.dry_run { "would be " } else { "" };
        write!(f, "{}: {would}", self.slice)?;
        let last = self.start + self.length.saturating_sub(1);
        match self.action {
            Action::Created => write!(f, "the first slice of a new target")?,
            Action::Appended => write!(f, "appended")?,
            Action::Skipped => write!(f, "left out, because it is there already")?,
        }
        if self.action != Action::Skipped {
            write!(f, " at {} {}", self.dimension, self.start)?;
            if last > self.start {
                write!(f, " to {last}")?;
            }
        }
        if let Some((first, last)) = &self.labels {
            write!(f, ", {first}")?;
            if first != last {
                write!(f, " to {last}")?;
            }
        }
        if !self.filled.is_empty() && self.action != Action::Skipped {
            write!(f, ", without {}", self.filled.join(", "))?;
        }
        if let Some(version) = self.version {
            write!(f, ", version {version}")?;
        }
        Ok(())
    }
}
