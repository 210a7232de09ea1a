//! Where URLs lead: which store, as whom, over which connections.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use reqwest::redirect;
use url::{Position, Url};

use super::{Link, Remote};
use crate::error::{Error, Result};

/// Schemes of the locations that lead to other machines.
pub(in crate::store) const SCHEMES: &[&str] = &[
    "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https",
];

/// Connections that are kept for those who come back.
const OPEN: usize = 64;

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);

/// How long nothing may come, where `HYPERSLAB_STALL_SECONDS` does not say.
const STALL: Duration = Duration::from_secs(15);

/// Redirections that are followed.
const REDIRECTIONS: usize = 5;

type Options = Vec<(String, String)>;

/// Stores that have been opened in this process.
static LINKS: LazyLock<Mutex<HashMap<Place, Arc<Link>>>> = LazyLock::new(Mutex::default);

/// A store as somebody sees it.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Place {
    /// Everything of the URL before the path of the object.
    base: String,
    options: Options,
    /// Connections end with the threads that they were made on.
    runtime: Option<tokio::runtime::Id>,
}

/// Opens the store of a URL.
///
/// # Errors
/// `Invalid` when it is malformed, or what is known of the store is not enough.
pub(in crate::store) fn open(location: &str, options: &[(String, String)]) -> Result<Remote> {
    let invalid = |reason: &dyn std::fmt::Display| {
        Error::Invalid(format!("{location} is not a valid location: {reason}"))
    };
    let url = Url::parse(location).map_err(|e| invalid(&e))?;
    let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|e| invalid(&e))?;
    let path = Path::parse(path).map_err(|e| invalid(&e))?;
    let named = match scheme {
        ObjectStoreScheme::AmazonS3 => "AWS_",
        ObjectStoreScheme::GoogleCloudStorage => "GOOGLE_",
        ObjectStoreScheme::MicrosoftAzure => "AZURE_",
        _ => "",
    };
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| !named.is_empty() && key.starts_with(named))
        .map(|(key, value)| (key.to_ascii_lowercase(), value));
    // Those that are given count more.
    let mut options: Options = environment.chain(options.iter().cloned()).collect();
    options.sort_by(|(one, _), (other, _)| one.cmp(other));
    // The name of a bucket is in the host, or before the key.
    let whole = url.as_str();
    let base = whole
        .strip_suffix(path.as_ref())
        .unwrap_or(&url[..Position::BeforePath]);
    let place = Place {
        base: base.to_owned(),
        options,
        runtime: tokio::runtime::Handle::try_current()
            .ok()
            .map(|runtime| runtime.id()),
    };
    let known = LINKS.lock().get(&place).cloned();
    let link = match known {
        Some(link) => link,
        None => {
            let objects = place.objects(&scheme, &url).map_err(|e| invalid(&e))?;
            let link = Arc::new(Link::new(objects, Some(place.seen_as())));
            let mut links = LINKS.lock();
            if links.len() >= OPEN {
                links.clear();
            }
            Arc::clone(links.entry(place).or_insert(link))
        }
    };
    Ok(Remote::new(link, path))
}

impl Place {
    /// What tells objects of this store, as it is seen here, from those of others.
    fn seen_as(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.options.hash(&mut hasher);
        format!("{:016x} {}", hasher.finish(), self.base)
    }

    fn objects(
        &self,
        scheme: &ObjectStoreScheme,
        url: &Url,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        // A writer is given up when he is silent for some time: requests must not be repeated for longer.
        let retry = RetryConfig {
            max_retries: 7,
            retry_timeout: Duration::from_secs(20),
            ..RetryConfig::default()
        };
        // Options that a store does not know are those of another one.
        macro_rules! built {
            ($builder:expr) => {{
                let builder = $builder
                    .with_url(url.as_str())
                    .with_retry(retry)
                    .with_http_connector(Connector::default());
                let options = self.options.iter();
                let builder = options.fold(builder, |builder, (key, value)| match key.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                Arc::new(builder.build()?)
            }};
        }
        Ok(match scheme {
            ObjectStoreScheme::AmazonS3 => built!(AmazonS3Builder::new()),
            ObjectStoreScheme::GoogleCloudStorage => built!(GoogleCloudStorageBuilder::new()),
            ObjectStoreScheme::MicrosoftAzure => built!(MicrosoftAzureBuilder::new()),
            _ => {
                let options = self.options.iter();
                let client = ClientOptions::new().with_allow_http(true);
                let client = options.fold(client, |client, (key, value)| match key.parse() {
                    Ok(key) => client.with_config(key, value),
                    Err(_) => client,
                });
                let builder = HttpBuilder::new()
                    .with_url(&url[..Position::BeforePath])
                    .with_retry(retry)
                    .with_client_options(client)
                    .with_http_connector(Connector::default());
                Arc::new(builder.build()?)
            }
        })
    }
}

/// Connections that end when nothing comes for too long, and do not lead to other hosts.
#[derive(Debug)]
pub(crate) struct Connector {
    /// Of every request.
    headers: HeaderMap,
    redirections: usize,
}

impl Default for Connector {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            redirections: REDIRECTIONS,
        }
    }
}

impl Connector {
    /// Connections that go where they are sent, with these headers.
    #[cfg(feature = "server")]
    pub(crate) fn straight(headers: HeaderMap) -> Self {
        Self {
            headers,
            redirections: 0,
        }
    }

    /// A server that is asked to look elsewhere may look at other places of the same host: elsewhere, others may see what is asked
    /// for, and the host may be one that only this machine can reach.
    fn policy(&self) -> redirect::Policy {
        let most = self.redirections;
        if most == 0 {
            return redirect::Policy::none();
        }
        redirect::Policy::custom(move |attempt| {
            let first = attempt.previous().first();
            if first.is_none_or(|first| first.host() != attempt.url().host()) {
                let host = attempt.url().host_str().unwrap_or_default();
                let refused = format!("it is redirected to another host, {host}");
                return attempt.error(refused);
            }
            if attempt.previous().len() > most {
                return attempt.error(format!("it is redirected more than {most} times"));
            }
            attempt.follow()
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: reqwest::Error| object_store::Error::Generic {
            store: "HTTP",
            source: Box::new(error),
        };
        let option = |key| options.get_config_value(&key);
        let is_on = |key| option(key).is_some_and(|value| value == "true");
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("hyperslab/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.headers.clone())
            .redirect(self.policy())
            .connect_timeout(CONNECT)
            .read_timeout(stall())
            .https_only(!is_on(ClientConfigKey::AllowHttp))
            .danger_accept_invalid_certs(is_on(ClientConfigKey::AllowInvalidCertificates))
            .http1_only();
        if let Some(proxy) = option(ClientConfigKey::ProxyUrl) {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?);
        }
        Ok(HttpClient::new(builder.build().map_err(failed)?))
    }
}

fn stall() -> Duration {
    let seconds = std::env::var("HYPERSLAB_STALL_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.trim().parse().ok());
    seconds.map_or(STALL, Duration::from_secs)
}
