//! Which locations statements may name: all, or what somebody allows.

use std::fmt::Debug;

use crate::error::Result;

/// What is to be done at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A dataset is read.
    Read,
    /// A dataset is made or changed.
    Write,
}

/// Who decides what may be done at a location.
pub trait Guard: Debug + Send + Sync {
    /// The path or URL that a location means, which statements name. What it answers may be asked for again.
    ///
    /// # Errors
    /// `Forbidden` when it must not be used so.
    fn place(&self, location: &str, access: Access) -> Result<String>;
}
