//! The one error type: each variant says what the caller can do about it.

use std::fmt::Display;

/// What went wrong, by what the caller can do about it.
///
/// The text of every variant is one sentence that names the object (path, variable, chunk, codec) it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing asked for does not exist: name another one.
    #[error("{0}")]
    NotFound(String),
    /// The request itself is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// Who asks must not do that.
    #[error("{0}")]
    Forbidden(String),
    /// The data is well formed, but uses a feature that cannot be read exactly.
    #[error("{0}")]
    Unsupported(String),
    /// The bytes contradict their own format: the file is damaged or not what it claims to be.
    #[error("{0}")]
    Corrupt(String),
    /// A configured limit would be exceeded: raise it or ask for less.
    #[error("{0}")]
    Exhausted(String),
    /// Somebody else changed the object in the meantime: try again.
    #[error("{0}")]
    Conflict(String),
    /// The storage failed: try again or look at the storage.
    #[error("{what}: {source}")]
    Io {
        /// What was being read or written.
        what: String,
        /// The failure of the storage.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Result of everything that can fail in this package.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An I/O failure while `what` was read or written.
    pub fn io(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    /// The same error with the place it happened in put in front, `place: sentence`, unless it stands there already.
    #[must_use]
    pub fn within(self, place: impl Display) -> Self {
        let place = place.to_string();
        let put = |text: String| {
            if text.starts_with(&place) {
                text
            } else {
                format!("{place}: {text}")
            }
        };
        match self {
            Self::NotFound(text) => Self::NotFound(put(text)),
            Self::Invalid(text) => Self::Invalid(put(text)),
            Self::Forbidden(text) => Self::Forbidden(put(text)),
            Self::Unsupported(text) => Self::Unsupported(put(text)),
            Self::Corrupt(text) => Self::Corrupt(put(text)),
            Self::Exhausted(text) => Self::Exhausted(put(text)),
            Self::Conflict(text) => Self::Conflict(put(text)),
            Self::Io { what, source } => Self::Io {
                what: put(what),
                source,
            },
        }
    }
}

/// Puts the place of a failure in front of its sentence.
pub trait Within<T> {
    /// See [`Error::within`]; `place` is only called on failure.
    fn within<P: Display>(self, place: impl FnOnce() -> P) -> Result<T>;
}

impl<T> Within<T> for Result<T> {
    fn within<P: Display>(self, place: impl FnOnce() -> P) -> Self {
        self.map_err(|error| error.within(place()))
    }
}
