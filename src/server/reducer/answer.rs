//! Answers on the wire: a CBOR map, or headers before raw bytes; and the JSON body of errors.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use tokio::sync::OwnedSemaphorePermit;

use super::reduce::Reduced;
use crate::error::Error;

/// Which of the two forms requests and answers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Headers and raw bytes.
    One,
    /// CBOR.
    Two,
}

/// Lists of an answer that are wanted as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AsBytes {
    pub(super) shape: bool,
    pub(super) count: bool,
}

/// The body of an answer, with keys in the order in which they are sent.
#[derive(Serialize)]
struct Map<'a> {
    bytes: ByteString<'a>,
    dtype: &'a str,
    shape: &'a [usize],
    shape_as_bytes: ByteString<'a>,
    count: &'a [i64],
    count_as_bytes: ByteString<'a>,
    byte_order: &'a str,
}

/// Bytes, which would else be a list of numbers.
struct ByteString<'a>(&'a [u8]);

impl Serialize for ByteString<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// The bytes of an answer, for which memory is reserved until they are sent.
struct Held {
    bytes: Vec<u8>,
    _memory: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer that is ready to be sent.
#[derive(Debug)]
pub(super) struct Encoded {
    headers: Vec<(HeaderName, HeaderValue)>,
    bytes: Vec<u8>,
}

impl Encoded {
    /// What a reduction gave, in the form of a version.
    ///
    /// # Errors
    /// 500 when it cannot be written.
    pub(super) fn new(
        version: Version,
        reduced: Reduced,
        as_bytes: AsBytes,
    ) -> Result<Self, Refusal> {
        match version {
            Version::One => headed(reduced),
            Version::Two => mapped(&reduced, as_bytes),
        }
    }

    /// The response, which holds `memory` until it is sent.
    pub(super) fn response(self, memory: OwnedSemaphorePermit) -> Response {
        let held = Held {
            bytes: self.bytes,
            _memory: memory,
        };
        let mut response = Response::new(Body::from(Bytes::from_owner(held)));
        response.headers_mut().extend(self.headers);
        response
    }
}

fn mapped(reduced: &Reduced, as_bytes: AsBytes) -> Result<Encoded, Refusal> {
    let lengths = reduced.shape.iter();
    let lengths = lengths.map(|length| u64::try_from(*length).unwrap_or(u64::MAX));
    let shape: Vec<u8> = lengths.flat_map(u64::to_ne_bytes).collect();
    let count: Vec<u8> = reduced
        .counts
        .iter()
        .flat_map(|count| count.to_ne_bytes())
        .collect();
    let map = Map {
        bytes: ByteString(&reduced.bytes),
        dtype: reduced.element.name(),
        shape: if as_bytes.shape { &[] } else { &reduced.shape },
        shape_as_bytes: ByteString(if as_bytes.shape { &shape } else { &[] }),
        count: if as_bytes.count { &[] } else { &reduced.counts },
        count_as_bytes: ByteString(if as_bytes.count { &count } else { &[] }),
        byte_order: byte_order(),
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&map, &mut bytes).map_err(|error| Refusal::internal(&error))?;
    let kind = HeaderValue::from_static("application/cbor");
    Ok(Encoded {
        headers: vec![(header::CONTENT_TYPE, kind)],
        bytes,
    })
}

fn headed(reduced: Reduced) -> Result<Encoded, Refusal> {
    // One number is not a list: clients compare it with 0.
    let count = match reduced.counts.as_slice() {
        [count] if reduced.shape.is_empty() => serde_json::to_string(count),
        counts => serde_json::to_string(counts),
    };
    let count = count.map_err(|error| Refusal::internal(&error))?;
    let shape = serde_json::to_string(&reduced.shape).map_err(|error| Refusal::internal(&error))?;
    let value =
        |text: String| HeaderValue::try_from(text).map_err(|error| Refusal::internal(&error));
    let named = |name: &'static str| HeaderName::from_static(name);
    Ok(Encoded {
        headers: vec![
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
            (
                named("x-activestorage-dtype"),
                HeaderValue::from_static(reduced.element.name()),
            ),
            (
                named("x-activestorage-byte-order"),
                HeaderValue::from_static(byte_order()),
            ),
            (named("x-activestorage-shape"), value(shape)?),
            (named("x-activestorage-count"), value(count)?),
        ],
        bytes: reduced.bytes,
    })
}

/// The byte order of this machine.
fn byte_order() -> &'static str {
    match cfg!(target_endian = "big") {
        true => "big",
        false => "little",
    }
}

/// Why a request has no other answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    /// The root cause last.
    causes: Vec<String>,
}

/// The body of an error.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    caused_by: &'a [String],
}

impl Refusal {
    fn new(status: StatusCode, message: &str, causes: Vec<String>) -> Self {
        Self {
            status,
            message: message.to_owned(),
            causes,
        }
    }

    fn bad(message: &str, causes: Vec<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, causes)
    }

    /// The request is wrong.
    pub(super) fn invalid(cause: &str) -> Self {
        Self::bad("request data is not valid", vec![cause.to_owned()])
    }

    /// The body of the request is too long.
    pub(super) fn too_long(most: usize) -> Self {
        let cause = format!("the body has more than {most} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request data is not valid",
            vec![cause],
        )
    }

    /// There is no such operation.
    pub(super) fn unknown(operation: &str) -> Self {
        let message = format!("unsupported operation {operation}");
        Self::new(StatusCode::NOT_FOUND, &message, Vec::new())
    }

    /// The bytes are not what the request says.
    pub(super) fn undecodable(error: &Error) -> Self {
        Self::bad("failed to decompress data", vec![error.to_string()])
    }

    /// The elements cannot be reduced as asked.
    pub(super) fn irreducible(error: &Error) -> Self {
        Self::bad(&error.to_string(), Vec::new())
    }

    /// The request would hold more than there is for all.
    pub(super) fn memory(wanted: usize, total: usize) -> Self {
        let message = format!("Insufficient memory to process request ({wanted} > {total})");
        Self::bad(&message, Vec::new())
    }

    /// Who asks has not said who it is in a way that is understood.
    pub(super) fn unauthorised(cause: &str) -> Self {
        let message = "credentials are not valid";
        Self::new(StatusCode::UNAUTHORIZED, message, vec![cause.to_owned()])
    }

    /// It took too long.
    pub(super) fn late() -> Self {
        let message = "the request took longer than a request may";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message, Vec::new())
    }

    /// Something of the server itself failed.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        let causes = causes(error);
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server failed",
            causes,
        )
    }

    /// The store failed.
    pub(super) fn storage(error: &object_store::Error) -> Self {
        Self::of_storage(StatusCode::INTERNAL_SERVER_ERROR, causes(error))
    }

    /// The store refuses who asks.
    pub(super) fn storage_unauthorised(error: &object_store::Error) -> Self {
        Self::of_storage(StatusCode::UNAUTHORIZED, causes(error))
    }

    /// The store has no such object.
    pub(super) fn storage_refused(error: &object_store::Error) -> Self {
        Self::of_storage(StatusCode::BAD_REQUEST, causes(error))
    }

    /// The range begins behind the end.
    pub(super) fn storage_range(offset: u64, size: u64) -> Self {
        let cause = format!("the object has {size} bytes, and the range begins at {offset}");
        Self::of_storage(StatusCode::BAD_REQUEST, vec![cause])
    }

    /// The object ends before the range does.
    pub(super) fn storage_length(expected: usize) -> Self {
        let cause = format!("the store did not send the {expected} bytes that were asked for");
        Self::of_storage(StatusCode::BAD_REQUEST, vec![cause])
    }

    /// A web server has not sent what it was asked for.
    pub(super) fn http(error: &object_store::Error) -> Self {
        Self::bad("HTTP request error", causes(error))
    }

    fn of_storage(status: StatusCode, causes: Vec<String>) -> Self {
        Self::new(status, "error retrieving object from S3 storage", causes)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: Message {
                message: &self.message,
                caused_by: &self.causes,
            },
        };
        let text = serde_json::to_string_pretty(&body).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (self.status, kind, text).into_response()
    }
}

/// What an error says, and what was behind it, each once.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut causes = vec![error.to_string()];
    let mut current = error.source();
    while let Some(source) = current {
        causes.push(source.to_string());
        current = source.source();
    }
    causes.dedup();
    causes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use ciborium::Value;

    use super::super::number::Element;
    use super::*;

    #[test]
    fn all_keys_are_there_in_their_order() {
        let reduced = Reduced {
            bytes: vec![1, 0, 2, 0],
            element: Element::Int16,
            shape: vec![2],
            counts: vec![5, 6],
        };
        let entries = |as_bytes: AsBytes| {
            let bytes = mapped(&reduced, as_bytes).unwrap().bytes;
            let value: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
            value.into_map().unwrap()
        };
        let list = |values: &[i64]| Value::Array(values.iter().map(|v| (*v).into()).collect());
        let plain = entries(AsBytes::default());
        let keys: Vec<&str> = plain.iter().filter_map(|(key, _)| key.as_text()).collect();
        let expected = "bytes dtype shape shape_as_bytes count count_as_bytes byte_order";
        assert_eq!(keys.join(" "), expected);
        assert_eq!(plain[0].1, Value::Bytes(vec![1, 0, 2, 0]));
        assert_eq!(plain[2].1, list(&[2]));
        assert_eq!(plain[3].1, Value::Bytes(Vec::new()));
        assert_eq!(plain[4].1, list(&[5, 6]));
        let packed = entries(AsBytes {
            shape: true,
            count: true,
        });
        assert_eq!(packed[2].1, list(&[]));
        assert_eq!(packed[3].1, Value::Bytes(2u64.to_ne_bytes().to_vec()));
        assert_eq!(packed[4].1, list(&[]));
        assert_eq!(packed[5].1.as_bytes().unwrap().len(), 16);
    }
}
