//! Who asks, and what they may do: users, tokens, and the roots below which datasets are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq};
use tonic::Status;

use super::config::{self, Config};
use crate::catalog::guard::{Access, Guard};
use crate::catalog::location::SPECIAL;
use crate::error::{Error, Result};

/// How long a token lasts that was given for a password.
const TOKEN: Duration = Duration::from_secs(12 * 3600);

/// Most tokens that were given for passwords.
const TOKENS: usize = 10_000;

/// How long somebody waits who was wrong, for each time; and the most.
const WAIT: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(4);

/// Somebody who asks.
#[derive(Debug)]
pub(super) struct Principal {
    pub(super) name: String,
    /// Roots that may be read, and whether they may be written.
    roots: Arc<Roots>,
}

/// Everybody who may ask.
#[derive(Debug)]
pub(super) struct Everybody {
    users: Vec<Known>,
    /// Who asks where there are no users.
    anonymous: Option<Arc<Principal>>,
    given: Mutex<HashMap<String, (Arc<Principal>, Instant)>>,
    wrong: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

struct Known {
    principal: Arc<Principal>,
    password: Option<String>,
    tokens: Vec<String>,
}

impl std::fmt::Debug for Known {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("name", &self.principal.name)
            .finish_non_exhaustive()
    }
}

impl Principal {
    /// What decides where their statements read and write.
    pub(super) fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.roots)
    }
}

impl Everybody {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (name, root) in &config.roots {
            let place = Place::new(&root.location).map_err(|e| e.within(format!("root {name}")))?;
            places.insert(name.clone(), (place, root.writable));
        }
        let roots = |read: Option<&[String]>, write: Option<&[String]>| {
            let may = |list: Option<&[String]>, name: &String| {
                list.is_none_or(|list| list.contains(name))
            };
            let places = places.iter().filter(|(name, _)| {
                may(read, name) || write.is_some_and(|write| write.contains(name))
            });
            Arc::new(Roots(
                places
                    .map(|(name, (place, writable))| {
                        (name.clone(), (place.clone(), *writable && may(write, name)))
                    })
                    .collect(),
            ))
        };
        let users = config.users.iter().map(|user| {
            Ok(Known {
                principal: Arc::new(Principal {
                    name: user.name.clone(),
                    roots: roots(user.read.as_deref(), Some(&user.write)),
                }),
                password: user.password.as_deref().map(config::secret).transpose()?,
                tokens: user
                    .tokens
                    .iter()
                    .map(|token| config::secret(token))
                    .collect::<Result<_>>()?,
            })
        });
        let users = users.collect::<Result<Vec<_>>>()?;
        let anonymous = users.is_empty().then(|| {
            Arc::new(Principal {
                name: "anonymous".to_owned(),
                roots: roots(None, None),
            })
        });
        Ok(Self {
            users,
            anonymous,
            given: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    /// Who has this name and password.
    pub(super) async fn of_password(
        &self,
        name: &str,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Status> {
        self.wait(peer).await;
        // All are looked at, so that the time tells nothing.
        let mut found = None;
        for user in &self.users {
            let of = user.password.as_deref().unwrap_or_default();
            let same = equal(&user.principal.name, name)
                & equal(of, password)
                & Choice::from(u8::from(user.password.is_some()));
            if bool::from(same) {
                found = Some(&user.principal);
            }
        }
        match (found, &self.anonymous) {
            (Some(principal), _) | (None, Some(principal)) => Ok(Arc::clone(principal)),
            (None, None) => Err(self.refuse(peer, "name or password is wrong")),
        }
    }

    /// Who has this token; without one, whoever may ask without.
    pub(super) async fn of_token(
        &self,
        token: Option<&str>,
        peer: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Status> {
        if let Some(anonymous) = &self.anonymous {
            return Ok(Arc::clone(anonymous));
        }
        let Some(token) = token else {
            return Err(Status::unauthenticated(
                "no token: log in with name and password, or send a token as \"authorization: Bearer …\"",
            ));
        };
        if let Some((principal, until)) = self.given.lock().get(token)
            && Instant::now() < *until
        {
            return Ok(Arc::clone(principal));
        }
        self.wait(peer).await;
        let mut found = None;
        for user in &self.users {
            let known = user.tokens.iter().map(|known| equal(known, token));
            if bool::from(known.fold(Choice::from(0), |any, same| any | same)) {
                found = Some(&user.principal);
            }
        }
        match found {
            Some(principal) => Ok(Arc::clone(principal)),
            None => Err(self.refuse(peer, "the token is wrong, or has expired")),
        }
    }

    /// A token for somebody who has shown a password.
    pub(super) fn give(&self, principal: &Arc<Principal>) -> Result<String, Status> {
        let token = random()?;
        let mut given = self.given.lock();
        let now = Instant::now();
        if given.len() >= TOKENS {
            given.retain(|_, (_, until)| now < *until);
        }
        if given.len() >= TOKENS {
            return Err(Status::resource_exhausted("too many are logged in"));
        }
        given.insert(token.clone(), (Arc::clone(principal), now + TOKEN));
        Ok(token)
    }

    /// Lets somebody wait who was wrong before, so that guessing takes long.
    async fn wait(&self, peer: Option<IpAddr>) {
        let times = {
            let wrong = self.wrong.lock();
            let known = peer.and_then(|peer| wrong.get(&peer));
            known.map_or(0, |(times, _)| *times)
        };
        if times > 0 {
            tokio::time::sleep((WAIT * times).min(MOST)).await;
        }
    }

    fn refuse(&self, peer: Option<IpAddr>, reason: &str) -> Status {
        if let Some(peer) = peer {
            let mut wrong = self.wrong.lock();
            let now = Instant::now();
            wrong.retain(|_, (_, last)| now.duration_since(*last) < Duration::from_secs(60));
            let entry = wrong.entry(peer).or_insert((0, now));
            *entry = (entry.0.saturating_add(1), now);
        }
        Status::unauthenticated(reason)
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn equal(one: &str, other: &str) -> Choice {
    one.as_bytes().ct_eq(other.as_bytes())
}

/// Name and password of a header of HTTP Basic.
pub(super) fn basic(header: &str) -> Option<(String, String)> {
    let (kind, encoded) = header.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    // Drivers written in Go leave the padding out.
    let engine = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let decoded = engine.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// 32 random bytes as text.
pub(super) fn random() -> Result<String, Status> {
    use std::fmt::Write;
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Status::internal(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Where a root is.
#[derive(Clone, Debug)]
enum Place {
    /// A folder, without links in its path.
    Folder(PathBuf),
    /// A URL, without a slash at its end.
    Url(String),
}

impl Place {
    fn new(location: &str) -> Result<Self> {
        if location.contains("://") && !location.starts_with("file://") {
            return Ok(Self::Url(location.trim_end_matches('/').to_owned()));
        }
        let path = Path::new(location.strip_prefix("file://").unwrap_or(location));
        let path = path
            .canonicalize()
            .map_err(|error| Error::io(format!("{location} is not there"), error))?;
        if !path.is_dir() {
            return Err(Error::Invalid(format!("{location} is not a folder")));
        }
        Ok(Self::Folder(path))
    }
}

/// The roots that somebody may use, by name, and whether they may be written.
#[derive(Debug)]
pub(super) struct Roots(BTreeMap<String, (Place, bool)>);

impl Roots {
    /// Names and locations of the roots.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(name, (place, _))| {
            let location = match place {
                Place::Folder(path) => path.display().to_string(),
                Place::Url(url) => url.clone(),
            };
            (name.as_str(), location)
        })
    }

    fn refused(&self, location: &str) -> Error {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        Error::Forbidden(match names.as_slice() {
            [] => format!("{location}: there is no root that you may use"),
            names => format!(
                "{location} is not below a root that you may use; write ROOT/path, where ROOT is one of {}",
                names.join(", ")
            ),
        })
    }
}

impl Guard for Roots {
    fn place(&self, location: &str, access: Access) -> Result<String> {
        let refused = || self.refused(location);
        let (start, rest) = location.split_once('/').unwrap_or((location, ""));
        let (name, place, writable) = match self.0.get(start) {
            Some((place, writable)) if !location.contains("://") => {
                if !is_plain(rest) {
                    return Err(refused());
                }
                let below = match place {
                    Place::Folder(path) if rest.is_empty() => path.display().to_string(),
                    Place::Folder(path) => inside(path, &path.join(rest)).ok_or_else(refused)?,
                    Place::Url(url) if rest.is_empty() => url.clone(),
                    Place::Url(url) => format!("{url}/{rest}"),
                };
                (start, below, *writable)
            }
            // What has been found below a root before.
            _ => {
                let found = self.0.iter().find_map(|(name, (place, writable))| {
                    let below = match place {
                        Place::Folder(root) => {
                            let path = Path::new(location);
                            let is_below = path.is_absolute() && path.starts_with(root);
                            (is_below && is_plain(location.trim_start_matches('/')))
                                .then(|| inside(root, path))??
                        }
                        Place::Url(root) => {
                            let rest = location.strip_prefix(root.as_str())?;
                            let rest = rest.strip_prefix('/').or(rest.is_empty().then_some(""))?;
                            is_plain(rest).then(|| location.to_owned())?
                        }
                    };
                    Some((name.as_str(), below, *writable))
                });
                found.ok_or_else(refused)?
            }
        };
        if access == Access::Write && !writable {
            return Err(Error::Forbidden(format!(
                "{location}: nothing below {name} may be changed by you"
            )));
        }
        Ok(place)
    }
}

/// Whether a path goes down only, and means what it says in every store.
fn is_plain(path: &str) -> bool {
    let is_strange = |c: char| c.is_control() || matches!(c, '\\' | '%');
    let path_parts = path.strip_suffix('/').unwrap_or(path).split('/');
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    !path.contains(is_strange) && (path.is_empty() || path_parts.into_iter().all(is_name))
}

/// A path as text, if it is below `root` wherever its links lead. What is not there yet has to be in a folder that is; a
/// pattern is looked at up to its first part with `*`, `?` or `[`.
fn inside(root: &Path, path: &Path) -> Option<String> {
    let mut there = PathBuf::new();
    for part in path.components() {
        if let Component::Normal(name) = part
            && name.to_str()?.contains(SPECIAL)
            && !there.join(name).exists()
        {
            break;
        }
        there.push(part);
    }
    while !there.exists() {
        // A link to nowhere may lead out as soon as something is made there.
        if there.is_symlink() || !there.pop() {
            return None;
        }
    }
    let real = there.canonicalize().ok()?;
    real.starts_with(root)
        .then(|| path.to_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn nothing_outside_of_a_root_has_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        for made in ["in/a", "in/b", "out", "inner"] {
            std::fs::create_dir_all(base.join(made)).unwrap();
        }
        std::fs::write(base.join("out/secret.nc"), "secret").unwrap();
        std::fs::write(base.join("in/a/x.nc"), "x").unwrap();
        std::os::unix::fs::symlink(base.join("out"), base.join("in/link")).unwrap();
        std::os::unix::fs::symlink(base.join("out/new.zarr"), base.join("in/dangling")).unwrap();
        std::os::unix::fs::symlink(base.join("in/b"), base.join("in/a/ok")).unwrap();
        let root = base.join("in").display().to_string();
        let roots = Roots(BTreeMap::from([
            ("data".to_owned(), (Place::new(&root).unwrap(), false)),
            (
                "far".to_owned(),
                (Place::new("s3://bucket/pre/").unwrap(), true),
            ),
        ]));
        let read = |location: &str| roots.place(location, Access::Read).ok();
        for (location, expected) in [
            ("data", root.clone()),
            ("data/a/x.nc", format!("{root}/a/x.nc")),
            ("data/a/ok/y.nc", format!("{root}/a/ok/y.nc")),
            ("data/a/*.nc", format!("{root}/a/*.nc")),
            ("data/**/x[12].nc", format!("{root}/**/x[12].nc")),
            ("far/c.zarr", "s3://bucket/pre/c.zarr".to_owned()),
        ] {
            assert_eq!(read(location), Some(expected.clone()), "{location}");
            // What has been found may be asked for again.
            assert_eq!(read(&expected), Some(expected.clone()), "{expected}");
        }
        let base = base.display().to_string();
        for hostile in [
            "x.nc",
            "other/x.nc",
            "/etc/passwd",
            "../out/secret.nc",
            "data/../out/secret.nc",
            "data/..",
            "data/./x.nc",
            "data/a/../../out/secret.nc",
            "data/link/secret.nc",
            "data/link",
            "data/dangling",
            "data/dangling/x",
            "data//etc/passwd",
            "data/a//x.nc",
            "data\\..\\out",
            "data/%2e%2e/out",
            "data/a\0b",
            "data/a\n",
            "file:///etc/passwd",
            "file://data/a/x.nc",
            "s3://bucket",
            "s3://bucket/",
            "s3://bucket/prefix/x",
            "s3://bucket/pre/../x",
            "s3://bucket/pre/%2e%2e/x",
            "s3://bucket/pre//x",
            "s3://other/pre/x",
            "s3a://bucket/pre/x",
            "http://bucket/pre/x",
            "https://data/x",
            "far/../x",
            "far/a/../../x",
            "far//x",
            "DATA/a/x.nc",
            "data:",
            "data:/a/x.nc",
            " data/a/x.nc",
            "~/x.nc",
            "$HOME/x.nc",
            ".",
            "..",
            "/",
            "",
            &format!("{base}/out/secret.nc"),
            &format!("{base}/inner"),
            &format!("{base}/in/../out/secret.nc"),
            &format!("{base}/in/link/secret.nc"),
            &format!("{base}/in/./a/x.nc"),
            &format!("{base}//in/a/x.nc"),
            &format!("{base}/in*"),
            &format!("{base}/*/secret.nc"),
            "data/link/*.nc",
            "data/*/../../out/secret.nc",
            "http://169.254.169.254/latest",
            "gs://bucket/pre/x",
            "az://bucket/pre/x",
            "memory:///x",
            "data/a/ok/../../../out/secret.nc",
            "data/link/../../out/secret.nc",
        ] {
            assert_eq!(read(hostile), None, "{hostile}");
        }
        let write = |location: &str| roots.place(location, Access::Write);
        let refused = write("data/a/new.zarr").unwrap_err().to_string();
        assert!(
            refused.contains("nothing below data may be changed"),
            "{refused}"
        );
        assert!(write("far/new.zarr").is_ok());
    }
}
