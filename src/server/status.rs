//! Errors of the engine as those of gRPC: the same sentence, and a code that says what the client can do.

use datafusion::error::DataFusionError;
use tonic::{Code, Status};

use crate::error::Error;
use crate::session::sentence;

/// Most bytes of a message: it travels in a header, which clients take up to 8 KiB of.
const MOST: usize = 4096;

/// The status of an error of a statement.
pub(super) fn status(error: &DataFusionError) -> Status {
    Status::new(code(error), cut(sentence(error)))
}

/// The status of an error of ours.
pub(super) fn of(error: &Error) -> Status {
    Status::new(of_ours(error), cut(error.to_string()))
}

fn code(error: &DataFusionError) -> Code {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(error) => of_ours(error),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(error) => code(error),
                None => Code::Internal,
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => code(inner),
        DataFusionError::Shared(inner) => code(inner),
        DataFusionError::Collection(all) => all.first().map_or(Code::Internal, code),
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..) => Code::InvalidArgument,
        DataFusionError::NotImplemented(_) | DataFusionError::Substrait(_) => Code::Unimplemented,
        DataFusionError::ResourcesExhausted(_) => Code::ResourceExhausted,
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => Code::Unavailable,
        _ => Code::Internal,
    }
}

fn of_ours(error: &Error) -> Code {
    match error {
        Error::NotFound(_) => Code::NotFound,
        Error::Invalid(_) => Code::InvalidArgument,
        Error::Forbidden(_) => Code::PermissionDenied,
        Error::Unsupported(_) => Code::Unimplemented,
        Error::Corrupt(_) => Code::DataLoss,
        Error::Exhausted(_) => Code::ResourceExhausted,
        Error::Conflict(text) if text.ends_with("exists already") => Code::AlreadyExists,
        Error::Conflict(_) => Code::Aborted,
        Error::Io { .. } => Code::Unavailable,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MOST {
        let mut end = MOST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
