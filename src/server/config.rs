//! What a server is told: one TOML file, and what the command line and the environment say over it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::reducer;
use crate::catalog::stores::is_of_store;
use crate::error::{Error, Result};
use crate::store::cache::Settings;

/// The configuration of a server.
///
/// ```
/// let config = hyperslab::server::Config::parse(
///     r#"
///     listen = "127.0.0.1:50051"
///
///     [roots.climate]
///     location = "/data/climate"
///
///     [[users]]
///     name = "ann"
///     password = "$ANN_PASSWORD"
///     write = ["climate"]
///     "#,
/// )?;
/// assert_eq!(config.users.len(), 1);
/// # Ok::<(), hyperslab::error::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port; port 0 is any that is free.
    pub listen: String,
    /// Whether plain text may leave this machine.
    pub insecure: bool,
    /// Certificate and key; without them the server speaks plain text.
    pub tls: Option<Tls>,
    /// What can be read, by the names that statements use.
    pub roots: BTreeMap<String, Root>,
    /// Who may ask. Without users, everybody who can connect may, which is refused beyond this machine.
    pub users: Vec<User>,
    /// How much of the machine statements may take.
    pub limits: Limits,
    /// Reductions of single chunks for clients of Reductionist; none without it.
    pub reducer: Option<Reducer>,
    /// How stores are reached, beside what the environment says.
    pub stores: Vec<Store>,
    /// What is kept of remote objects, instead of what the environment says.
    pub cache: Option<Cache>,
}

/// How what is at or below a location is reached.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The location: a URL.
    pub prefix: String,
    /// Options (`aws_…`, `google_…`, `azure_…`, `allow_http`) with their values, or `$NAME`: what the environment says.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for Store {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The options, with what the environment says.
    ///
    /// # Errors
    /// `Invalid` when it does not say what it should.
    pub(super) fn options(&self) -> Result<Vec<(String, String)>> {
        let options = self.options.iter();
        options
            .map(|(name, value)| match is_of_store(name) {
                true => Ok((name.clone(), secret(value)?)),
                false => Err(Error::Invalid(format!("{name} is no option of a store"))),
            })
            .collect::<Result<_>>()
            .map_err(|error| error.within(format!("store {}", self.prefix)))
    }
}

/// What is kept of remote objects that have been read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// MiB in memory, besides those of statements.
    pub memory_mib: u64,
    /// A folder in which more is kept, also for other processes; none without it.
    pub directory: Option<PathBuf>,
    /// MiB in the folder.
    pub disk_mib: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            memory_mib: 256,
            directory: None,
            disk_mib: 4096,
        }
    }
}

impl Cache {
    pub(super) fn settings(&self) -> Settings {
        let bytes = |mib: u64| mib.saturating_mul(1 << 20);
        Settings {
            memory: bytes(self.memory_mib),
            directory: self.directory.clone(),
            disk: bytes(self.disk_mib),
        }
    }
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate of the server, with those that it is signed by.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who has to have signed the certificates of clients, if they have to have one.
    pub clients: Option<PathBuf>,
}

/// A folder or prefix below which datasets are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Path or URL.
    pub location: String,
    /// Whether anything below it may be changed, by whoever may write there.
    #[serde(default)]
    pub writable: bool,
}

/// Somebody who may ask.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password, or `$NAME`: what the environment says.
    #[serde(default)]
    pub password: Option<String>,
    /// Tokens that are as good as the password, or `$NAME`.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// Roots that may be read: all, if it does not say which.
    #[serde(default)]
    pub read: Option<Vec<String>>,
    /// Roots that may be written: none, if it does not say which.
    #[serde(default)]
    pub write: Vec<String>,
    /// Statements that may run at the same time; others wait.
    #[serde(default)]
    pub statements: Option<usize>,
    /// MiB that the statements may hold.
    #[serde(default)]
    pub memory_mib: Option<usize>,
}

impl std::fmt::Debug for User {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("read", &self.read)
            .field("write", &self.write)
            .finish_non_exhaustive()
    }
}

/// How much of the machine statements may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// MiB that all statements may hold.
    pub memory_mib: usize,
    /// Statements that run at the same time; others wait.
    pub statements: usize,
    /// Of these, how many that decode more than a million cells; as many as there are cores, if it does not say.
    pub scans: Option<usize>,
    /// Seconds that a statement waits until it is refused.
    pub queue_seconds: u64,
    /// Seconds that a statement may run, with the time that the client takes to fetch.
    pub statement_seconds: u64,
    /// Prepared statements, and results that were not fetched, of each user; the oldest are forgotten.
    pub handles: usize,
    /// Seconds until a handle that is not used is forgotten.
    pub handle_seconds: u64,
    /// Sessions of each user, which hold settings and named tables; the oldest are forgotten.
    pub sessions: usize,
    /// MiB of a message that a client may send.
    pub message_mib: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            statements: 64,
            scans: None,
            queue_seconds: 30,
            statement_seconds: 3600,
            handles: 1000,
            handle_seconds: 3600,
            sessions: 64,
            message_mib: 64,
        }
    }
}

/// Reductions of single chunks, which read objects by the credentials of who asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reducer {
    /// URLs (`http://…`, `https://…`) below which objects may be read, so that nobody gets at other places through the
    /// server. There has to be one.
    pub stores: Vec<String>,
    /// MiB that all requests may hold, stored and decoded; others wait.
    pub memory_mib: usize,
    /// Requests to stores at the same time; others wait.
    pub connections: usize,
}

impl Default for Reducer {
    fn default() -> Self {
        Self {
            stores: Vec::new(),
            memory_mib: 1024,
            connections: 64,
        }
    }
}

impl Limits {
    pub(super) fn queue(&self) -> Duration {
        Duration::from_secs(self.queue_seconds)
    }

    pub(super) fn statement(&self) -> Duration {
        Duration::from_secs(self.statement_seconds)
    }

    pub(super) fn handle(&self) -> Duration {
        Duration::from_secs(self.handle_seconds)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50051".to_owned(),
            insecure: false,
            tls: None,
            roots: BTreeMap::new(),
            users: Vec::new(),
            limits: Limits::default(),
            reducer: None,
            stores: Vec::new(),
            cache: None,
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// `Invalid` with the line of what is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::Invalid(error.to_string().trim().to_owned()))
    }

    /// Reads a configuration from a file.
    ///
    /// # Errors
    /// `Io` when it cannot be read; as [`Config::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::io(format!("{place} cannot be read"), error))?;
        Self::parse(&text).map_err(|error| error.within(&place))
    }

    /// Checks what can be checked without serving: addresses, names, files of certificates, who can ask from where.
    ///
    /// # Errors
    /// `Invalid` or `Io`, naming what is wrong.
    pub fn check(&self) -> Result<()> {
        let address = self.address()?;
        if !address.ip().is_loopback() && self.tls.is_none() && !self.insecure {
            return Err(Error::Invalid(format!(
                "listen = \"{}\" is reached from other machines, and without [tls] everything is sent as plain text; \
                 insecure = true allows that",
                self.listen
            )));
        }
        if !address.ip().is_loopback() && self.users.is_empty() {
            return Err(Error::Invalid(format!(
                "listen = \"{}\" is reached from other machines, and there are no [[users]]",
                self.listen
            )));
        }
        for name in self.roots.keys() {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || !name.chars().all(is_plain) {
                return Err(Error::Invalid(format!(
                    "root \"{name}\": a name has letters, digits, _ and - only"
                )));
            }
        }
        let mut names = std::collections::HashSet::new();
        for user in &self.users {
            if !names.insert(&user.name) {
                return Err(Error::Invalid(format!("user {} is there twice", user.name)));
            }
            if user.password.is_none() && user.tokens.is_empty() {
                return Err(Error::Invalid(format!(
                    "user {} has neither a password nor tokens",
                    user.name
                )));
            }
            let all = user.read.iter().flatten().chain(&user.write);
            if let Some(unknown) = all.into_iter().find(|root| !self.roots.contains_key(*root)) {
                return Err(Error::Invalid(format!(
                    "user {}: there is no root {unknown}",
                    user.name
                )));
            }
            for secret in user.password.iter().chain(&user.tokens) {
                self::secret(secret).map_err(|e| e.within(format!("user {}", user.name)))?;
            }
        }
        if let Some(reducer) = &self.reducer {
            reducer::check(reducer)?;
        }
        for store in &self.stores {
            store.options()?;
        }
        let limits = &self.limits;
        let mut counts = vec![limits.statements, limits.handles, limits.sessions];
        counts.extend(limits.scans);
        counts.extend(self.users.iter().filter_map(|user| user.statements));
        if counts.contains(&0) {
            return Err(Error::Invalid(
                "limits: statements, scans, handles and sessions have to be at least 1".to_owned(),
            ));
        }
        Ok(())
    }

    /// The address that it listens on.
    pub(super) fn address(&self) -> Result<SocketAddr> {
        let mut addresses = std::net::ToSocketAddrs::to_socket_addrs(self.listen.as_str())
            .map_err(|error| {
                Error::Invalid(format!(
                    "listen = \"{}\" is no address: {error}",
                    self.listen
                ))
            })?;
        addresses
            .next()
            .ok_or_else(|| Error::Invalid(format!("listen = \"{}\" is no address", self.listen)))
    }
}

/// A secret, or what the environment says it is.
pub(super) fn secret(text: &str) -> Result<String> {
    let Some(name) = text.strip_prefix('$') else {
        return Ok(text.to_owned());
    };
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(Error::Invalid(format!(
            "the environment does not say what ${name} is"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (text, complaint) in [
            ("lisen = \"x\"", "lisen"),
            ("listen = \"nowhere\"", "nowhere"),
            ("listen = \"0.0.0.0:1\"", "plain text"),
            ("listen = \"0.0.0.0:1\"\ninsecure = true", "no [[users]]"),
            ("[roots.\"a/b\"]\nlocation = \"x\"", "a/b"),
            ("[[users]]\nname = \"ann\"", "neither a password nor tokens"),
            (
                "[[users]]\nname = \"ann\"\ntokens = [\"x\"]\nwrite = [\"a\"]",
                "no root a",
            ),
            (
                "[[users]]\nname = \"ann\"\npassword = \"$NOT_THERE_AT_ALL\"",
                "$NOT_THERE_AT_ALL",
            ),
            ("[limits]\nstatements = 0", "at least 1"),
            ("[reducer]", "stores has to have"),
            ("[reducer]\nstores = [\"s3://bucket\"]", "no http(s) URL"),
            (
                "[reducer]\nstores = [\"http://here/\"]\nmemory_mib = 0",
                "at least 1",
            ),
            (
                "[[stores]]\nprefix = \"s3://a\"\noptions = { aws_region = \"$NOT_THERE_AT_ALL\" }",
                "store s3://a: the environment does not say",
            ),
            (
                "[[stores]]\nprefix = \"s3://a\"\noptions = { region = \"x\" }",
                "region is no option of a store",
            ),
            ("[cache]\nmemory = 1", "memory"),
        ] {
            let refused = Config::parse(text).and_then(|config| config.check());
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(complaint), "{text}: {refused}");
        }
        Config::default().check().unwrap();
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[[users]]\nname = \"ann\"\npassword = \"hush\"\n\
                    [[stores]]\nprefix = \"s3://a\"\noptions = { aws_secret_access_key = \"hush\" }";
        let config = Config::parse(text).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
