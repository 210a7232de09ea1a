//! The objects that requests name: which may be read, as whom, and how they are fetched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, RetryConfig,
};
use parking_lot::Mutex;
use serde::Deserialize;
use url::Url;

use super::answer::Refusal;
use crate::error::{Error, Result};
use crate::server::access::basic;
use crate::store::Connector;

/// Stores that are kept open.
const OPEN: usize = 64;

/// What a URL is the address of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Interface {
    /// A bucket and a key, below the endpoint of an object store.
    S3,
    /// A resource of a web server.
    Http,
    Https,
}

/// The address of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    interface: Interface,
    place: Place,
    query: Option<String>,
}

/// A place on a server: a prefix of others, or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Scheme, host and port.
    origin: String,
    /// Decoded, none of them empty.
    parts: Vec<String>,
}

/// Name and password, or the two keys of an object store.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Credentials {
    name: String,
    secret: String,
}

/// The stores that have been asked for.
#[derive(Debug)]
pub(super) struct Objects {
    /// Below which anything may be read.
    allowed: Vec<Place>,
    open: Mutex<HashMap<Key, Arc<dyn ObjectStore>>>,
}

/// A store as somebody sees it.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Key {
    origin: String,
    bucket: Option<String>,
    query: Option<String>,
    credentials: Option<Credentials>,
}

impl std::fmt::Debug for Key {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.origin, self.bucket)
    }
}

impl Place {
    /// The place of a URL that has nothing but a path.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub(super) fn new(url: &str) -> Result<Self> {
        let (place, query) = Self::parse(url)?;
        match query {
            None => Ok(place),
            Some(_) => Err(Error::Invalid(format!("{url} has a query"))),
        }
    }

    fn parse(text: &str) -> Result<(Self, Option<String>)> {
        let url = Url::parse(text)
            .map_err(|error| Error::Invalid(format!("{text} is no absolute URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Error::Invalid(format!("{text} is no http(s) URL")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Invalid(
                "credentials are sent by HTTP Basic, not in the URL".to_owned(),
            ));
        }
        let parts = url.path_segments().into_iter().flatten();
        let parts = parts
            .filter(|part| !part.is_empty())
            .map(decoded)
            .collect::<Result<_>>()?;
        let place = Self {
            origin: url.origin().ascii_serialization(),
            parts,
        };
        Ok((place, url.query().map(str::to_owned)))
    }

    /// Whether `other` is this place or below it.
    fn has(&self, other: &Self) -> bool {
        self.origin == other.origin && other.parts.starts_with(&self.parts)
    }
}

impl Address {
    /// The address that a URL is by an interface.
    ///
    /// # Errors
    /// `Invalid` when the URL is malformed, or is no bucket and key where it should be.
    pub(super) fn new(interface: Interface, url: &str) -> Result<Self> {
        let (place, query) = Place::parse(url)?;
        let address = Self {
            interface,
            place,
            query,
        };
        match interface {
            Interface::S3 => address.in_bucket(),
            Interface::Http | Interface::Https => Ok(address),
        }
    }

    /// The address of an object in a bucket below an endpoint.
    ///
    /// # Errors
    /// As [`Address::new`].
    pub(super) fn of_bucket(source: &str, bucket: &str, object: &str) -> Result<Self> {
        let mut place = Place::new(source)?;
        let below = [bucket, object];
        let parts = below.iter().flat_map(|text| text.split('/'));
        for part in parts.filter(|part| !part.is_empty()) {
            place.parts.push(plain(part.to_owned())?);
        }
        let address = Self {
            interface: Interface::S3,
            place,
            query: None,
        };
        address.in_bucket()
    }

    fn in_bucket(self) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match self.place.parts.as_slice() {
            [bucket, _, ..] if bucket.chars().all(is_plain) && self.query.is_none() => Ok(self),
            _ => Err(Error::Invalid(
                "an s3 URL is an endpoint, a bucket and a key: http(s)://host/bucket/key"
                    .to_owned(),
            )),
        }
    }
}

impl Credentials {
    /// Those of a request, if it has some.
    ///
    /// # Errors
    /// 401 when they are not those of HTTP Basic.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return Ok(None);
        };
        let credentials = header.to_str().ok().and_then(|header| {
            let (name, secret) = basic(header)?;
            Some(Self { name, secret })
        });
        match credentials {
            None => Err(Refusal::unauthorised(
                "the header authorization is not Basic",
            )),
            Some(Self { name, secret }) if name.is_empty() && secret.is_empty() => Ok(None),
            known => Ok(known),
        }
    }

    /// As a header of HTTP Basic.
    fn header(&self) -> Result<HeaderValue> {
        let text = BASE64_STANDARD.encode(format!("{}:{}", self.name, self.secret));
        let mut value = HeaderValue::from_str(&format!("Basic {text}"))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Objects {
    /// Objects below these URLs.
    ///
    /// # Errors
    /// `Invalid` when one is no URL.
    pub(super) fn new(allowed: &[String]) -> Result<Self> {
        Ok(Self {
            allowed: allowed
                .iter()
                .map(|url| Place::new(url))
                .collect::<Result<_>>()?,
            open: Mutex::default(),
        })
    }

    /// Checks that an object may be read.
    ///
    /// # Errors
    /// 400 when it is not below a URL that may be read.
    pub(super) fn check(&self, address: &Address) -> Result<(), Refusal> {
        match self.allowed.iter().any(|place| place.has(&address.place)) {
            true => Ok(()),
            false => Err(Refusal::invalid(
                "the URL is not below one that this server may read",
            )),
        }
    }

    /// Bytes of an object from `offset` on.
    ///
    /// # Errors
    /// As [`Objects::begin`].
    pub(super) async fn length(
        &self,
        address: &Address,
        credentials: Option<Credentials>,
        offset: u64,
    ) -> Result<u64, Refusal> {
        let (objects, path) = self.open(address, credentials)?;
        match objects.head(&path).await {
            Ok(head) if offset < head.size => Ok(head.size - offset),
            Ok(head) => Err(Refusal::storage_range(offset, head.size)),
            Err(error) => Err(failed(address.interface, error)),
        }
    }

    /// Begins to fetch a range of an object; without a size, all from `offset` on.
    ///
    /// # Errors
    /// 401 when the credentials are refused, 400 when there is no such object or range, 500 when the store fails.
    pub(super) async fn begin(
        &self,
        address: &Address,
        credentials: Option<Credentials>,
        offset: u64,
        size: Option<u64>,
    ) -> Result<GetResult, Refusal> {
        let (objects, path) = self.open(address, credentials)?;
        let range = match (offset, size) {
            (0, None) => None,
            (offset, None) => Some(GetRange::Offset(offset)),
            (offset, Some(size)) => Some(GetRange::Bounded(offset..offset.saturating_add(size))),
        };
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let refused = match objects.get_opts(&path, options).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        // A range that begins behind the end is refused by a status of its own, which the client does not tell.
        if matches!(refused, object_store::Error::Generic { .. })
            && (offset > 0 || size.is_some())
            && let Ok(head) = objects.head(&path).await
            && offset >= head.size
        {
            return Err(Refusal::storage_range(offset, head.size));
        }
        Err(failed(address.interface, refused))
    }

    fn open(
        &self,
        address: &Address,
        credentials: Option<Credentials>,
    ) -> Result<(Arc<dyn ObjectStore>, Path), Refusal> {
        let invalid = |text: String| Refusal::invalid(&text);
        let parts = address.place.parts.as_slice();
        let (bucket, parts) = match (address.interface, parts.split_first()) {
            (Interface::S3, Some((bucket, parts))) => (Some(bucket.clone()), parts),
            _ => (None, parts),
        };
        let path = Path::parse(parts.join("/"))
            .map_err(|error| invalid(format!("the URL has no valid path: {error}")))?;
        let key = Key {
            origin: address.place.origin.clone(),
            bucket,
            query: address.query.clone(),
            credentials,
        };
        if let Some(objects) = self.open.lock().get(&key) {
            return Ok((Arc::clone(objects), path));
        }
        let objects = key.open().map_err(|error| invalid(error.to_string()))?;
        let mut open = self.open.lock();
        if open.len() >= OPEN {
            open.clear();
        }
        open.insert(key, Arc::clone(&objects));
        Ok((objects, path))
    }
}

impl Key {
    fn open(&self) -> Result<Arc<dyn ObjectStore>> {
        let invalid = |error: object_store::Error| Error::Invalid(error.to_string());
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: Duration::from_secs(10),
            ..RetryConfig::default()
        };
        let options = ClientOptions::new().with_allow_http(true);
        let Some(bucket) = &self.bucket else {
            let header = self.credentials.as_ref().map(Credentials::header);
            let header = header.transpose()?;
            let headers = header.map(|value| (header::AUTHORIZATION, value));
            let straight = Connector::straight(headers.into_iter().collect());
            let query = self.query.as_ref().map(|query| format!("/?{query}"));
            let url = format!("{}{}", self.origin, query.unwrap_or_default());
            let builder = HttpBuilder::new().with_url(url).with_retry(retry);
            let builder = builder.with_client_options(options);
            let objects = builder
                .with_http_connector(straight)
                .build()
                .map_err(invalid)?;
            return Ok(Arc::new(objects));
        };
        // Not of the environment: who asks must not read as the server.
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.origin)
            .with_bucket_name(bucket)
            .with_region("us-east-1")
            .with_virtual_hosted_style_request(false)
            .with_client_options(options)
            .with_http_connector(Connector::straight(HeaderMap::new()))
            .with_retry(retry);
        let builder = match &self.credentials {
            None => builder.with_skip_signature(true),
            Some(Credentials { name, secret }) => builder
                .with_access_key_id(name)
                .with_secret_access_key(secret),
        };
        Ok(Arc::new(
            builder.with_allow_http(true).build().map_err(invalid)?,
        ))
    }
}

/// The bytes of an answer, which has to have as many as it says.
///
/// # Errors
/// 400 when it has another number than `expected`, 500 when the store fails.
pub(super) async fn collect(result: GetResult, expected: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::with_capacity(expected);
    let mut stream = result.into_stream();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| Refusal::storage(&error))?;
        if part.len() > expected - bytes.len() {
            return Err(Refusal::storage_length(expected));
        }
        bytes.extend_from_slice(&part);
    }
    match bytes.len() == expected {
        true => Ok(bytes),
        false => Err(Refusal::storage_length(expected)),
    }
}

/// The answer to who asked for an object that could not be fetched.
fn failed(interface: Interface, error: object_store::Error) -> Refusal {
    use object_store::Error as Failure;
    match (interface, error) {
        (Interface::Http | Interface::Https, error) => Refusal::http(&error),
        (
            Interface::S3,
            error @ (Failure::Unauthenticated { .. } | Failure::PermissionDenied { .. }),
        ) => Refusal::storage_unauthorised(&error),
        (
            Interface::S3,
            error @ (Failure::NotFound { .. }
            | Failure::NotSupported { .. }
            | Failure::InvalidPath { .. }),
        ) => Refusal::storage_refused(&error),
        (Interface::S3, error) => Refusal::storage(&error),
    }
}

/// A part of a path without its percent signs, each of which has to be followed by two digits.
fn decoded(part: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok());
        bytes.push(value.ok_or_else(|| strange(part))?);
    }
    String::from_utf8(bytes)
        .map_err(|_| strange(part))
        .and_then(plain)
}

/// A part of a path that goes down, and nowhere else.
fn plain(part: String) -> Result<String> {
    let is_strange = |c: char| c.is_control() || matches!(c, '/' | '\\');
    match matches!(part.as_str(), "." | "..") || part.contains(is_strange) {
        true => Err(strange(&part)),
        false => Ok(part),
    }
}

fn strange(part: &str) -> Error {
    Error::Invalid(format!("{part:?} is no valid part of a path"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn only_what_is_below_a_prefix_may_be_read() {
        let allowed = ["http://127.0.0.1:9000/climate", "https://data.example/"];
        let objects = Objects::new(&allowed.map(str::to_owned)).unwrap();
        let may = |interface, url: &str| {
            Address::new(interface, url).is_ok_and(|address| objects.check(&address).is_ok())
        };
        for url in [
            "http://127.0.0.1:9000/climate/tas.nc",
            "http://127.0.0.1:9000/climate//tas.nc",
            "http://127.0.0.1:9000/cl%69mate/a%20b/tas.nc",
            "http://127.0.0.1:9000/other/../climate/tas.nc",
            "https://data.example:443/bucket/key",
            "https://DATA.example/bucket/key",
        ] {
            assert!(may(Interface::S3, url), "{url}");
        }
        for url in [
            "http://127.0.0.1:9000/climate2/tas.nc",
            "http://127.0.0.1:9000/climate/../other/tas.nc",
            "http://127.0.0.1:9000/climate/%2e%2e/other/tas.nc",
            "http://127.0.0.1:9000/climate/a%2f..%2f..%2fother",
            "http://127.0.0.1:9000/climate/..%5cother",
            "http://127.0.0.1:9000/climate",
            "http://127.0.0.1:9001/climate/tas.nc",
            "http://127.0.0.2:9000/climate/tas.nc",
            "https://127.0.0.1:9000/climate/tas.nc",
            "http://user:secret@127.0.0.1:9000/climate/tas.nc",
            "http://127.0.0.1:9000@evil.example/climate/tas.nc",
            "http://127.0.0.1:9000/climate/tas.nc?versionId=1",
            "http://169.254.169.254/latest/meta-data",
            "https://data.example.evil/bucket/key",
            "https://data.example/",
            "https://data.example/buc%3fket/key",
            "https://data.example/bucket/a%00b",
            "https://data.example/bucket/a%zz",
            "https://data.example/bucket/a%ff",
            "file:///etc/passwd",
            "s3://climate/tas.nc",
            "climate/tas.nc",
            "",
        ] {
            assert!(!may(Interface::S3, url), "{url}");
        }
        assert!(may(
            Interface::Https,
            "https://data.example/tas.nc?signed=1"
        ));
        let of_bucket = |bucket: &str, object: &str| {
            Address::of_bucket("http://127.0.0.1:9000", bucket, object)
                .is_ok_and(|address| objects.check(&address).is_ok())
        };
        assert!(of_bucket("climate", "/a/b.nc"));
        assert!(of_bucket("/climate", "100%.nc"));
        assert!(!of_bucket("climate", "../other/b.nc"));
        assert!(!of_bucket("other", "b.nc"));
        assert!(!of_bucket("climate", ""));
    }

    #[test]
    fn secrets_are_not_shown() {
        let header = HeaderValue::from_static("Basic YW5uOmh1c2g=");
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, header)]);
        let credentials = Credentials::of(&headers).ok().flatten().unwrap();
        assert_eq!(
            (credentials.name.as_str(), credentials.secret.as_str()),
            ("ann", "hush")
        );
        let key = Key {
            origin: "http://here".to_owned(),
            bucket: None,
            query: Some("hush".to_owned()),
            credentials: Some(credentials),
        };
        assert!(!format!("{key:?}").contains("hush"));
    }
}
