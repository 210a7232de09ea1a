//! From a location to the tables of the dataset there; the list of formats.

pub mod copy;
pub mod describe;
pub mod factory;
mod files;
pub mod functions;
mod grow;
pub mod guard;
pub mod live;
pub mod location;
pub mod provider;
pub mod quote;
pub mod stores;
mod system;
pub mod tables;

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, OnceLock, Weak};

use datafusion::execution::SessionState;
use parking_lot::{Mutex, RwLock};

use crate::append::log::{self, Log};
use crate::append::{self, Target};
use crate::array::cut::cut;
use crate::array::{Dataset, Group, Variable};
use crate::catalog::files::{Files, Together};
use crate::catalog::guard::{Access, Guard};
use crate::catalog::stores::Stores;
use crate::catalog::tables::TableParts;
use crate::cf::join_words;
use crate::cf::roles::{self, Role};
use crate::error::{Error, Result, Within};
use crate::format::blosc2::Blosc2;
use crate::format::hdf5::Hdf5;
#[cfg(feature = "icechunk")]
use crate::format::icechunk::Icechunk;
use crate::format::netcdf3::Netcdf3;
use crate::format::zarr::Zarr;
use crate::format::{Format, Reference};
use crate::query::HyperslabOptions;
use crate::query::insert::append_options;
use crate::store::replace::Identity;
use crate::store::{Kind, Store};

/// Every format, in the order in which a location is tried.
pub const FORMATS: &[&dyn Format] = &[
    &Hdf5,
    &Netcdf3,
    &Zarr,
    #[cfg(feature = "icechunk")]
    &Icechunk,
    &Blosc2,
];

/// Bytes of an object by which formats recognise it.
const HEAD: u64 = 4096;

/// Datasets whose metadata is kept.
const KEPT: usize = 256;

/// An opened dataset and where its bytes are.
#[derive(Debug)]
pub struct Opened {
    /// The bytes.
    pub store: Store,
    /// The metadata.
    pub dataset: Dataset,
    /// The format that it is in.
    pub format: &'static dyn Format,
    /// The version that was asked for, where the format keeps versions itself.
    pub reference: Option<Reference>,
    /// What takes changes; an earlier version does not.
    pub target: Option<Target>,
    /// The files that it is made of, if it is several, in their order.
    pub members: Vec<Arc<Opened>>,
    /// How they were put together.
    together: Option<Together>,
    /// Its tables, once they have been asked for.
    tables: OnceLock<Vec<TableParts>>,
}

/// Whose settings decide how datasets are decoded. That it can be shared between threads is said here: of the state of a
/// session it takes the compiler long to find out, for everything anew that holds a catalog.
trait Settings: Send + Sync {
    fn options(&self) -> Option<HyperslabOptions>;
}

impl Settings for RwLock<SessionState> {
    fn options(&self) -> Option<HyperslabOptions> {
        let state = self.read();
        let options = state.config_options().extensions.get::<HyperslabOptions>();
        options.cloned()
    }
}

impl Debug for dyn Settings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Settings")
    }
}

/// Opens datasets, and keeps the metadata of those that are one object until the object changes.
#[derive(Debug, Default)]
pub struct Catalog {
    kept: Mutex<HashMap<String, (Seen, Arc<Opened>)>>,
    registered: RwLock<HashMap<String, String>>,
    session: RwLock<Option<Weak<dyn Settings>>>,
    guard: RwLock<Option<Arc<dyn Guard>>>,
    stores: Stores,
}

/// What a dataset that is one object was when it was opened.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    File(Identity),
    /// By what an object store calls it.
    Object(Arc<str>),
}

/// The format that goes by a name of `STORED AS` or by an extension.
#[must_use]
pub fn format_called(name: &str) -> Option<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|format| is_called(format.name(), name))
}

impl Catalog {
    /// Opens the dataset at a location, a path or URL, in whichever format it is. A location with `*`, `?` or `[…]` in it
    /// means several files, which are put together along a dimension: the one along which they differ, or `#along=time`.
    ///
    /// # Errors
    /// `NotFound` when there is nothing, `Unsupported` when it is in none of the formats, and what the format says.
    pub async fn open(&self, location: &str) -> Result<Arc<Opened>> {
        self.open_as(location, None).await
    }

    /// Opens the dataset at a location as one of the format called `format`, or in whichever format it is. A location that
    /// ends in `#version=n` means what it was as its version `n`; see [`location`].
    ///
    /// # Errors
    /// As [`Catalog::open`]; `Invalid` when the dataset is not of the format asked for, `NotFound` when it has no such
    /// version.
    pub async fn open_as(&self, location: &str, format: Option<&str>) -> Result<Arc<Opened>> {
        let (named, marks) = location::split(location);
        let location = self.place(named, Access::Read)?;
        let location = location.as_str();
        let along = location::along(marks);
        if let Some(files) = Files::of(location, along) {
            return files.open(self, format).await.map(Arc::new);
        }
        if along.is_some() {
            return Err(Error::Invalid(format!(
                "{location}{marks}: only several files, {location} with * in it, are put together along a dimension"
            )));
        }
        let store = self.store(location)?;
        let Some(reference) = location::reference(marks) else {
            return self.open_store(store, format).await;
        };
        let kind = store.kind().await?;
        if kind == Kind::Directory
            && let Ok(found) = recognise(&store, &[], format).await
            && let Some(versions) = found.versions()
        {
            let (mut dataset, branch) = versions.open(&store, &reference).await?;
            interpret(&mut dataset.root);
            let target = Target::new(store.clone(), found);
            return Ok(Arc::new(Opened {
                store,
                dataset,
                format: found,
                target: branch.map(|branch| target.on(Some(branch))),
                reference: Some(reference),
                members: Vec::new(),
                together: None,
                tables: OnceLock::new(),
            }));
        }
        let opened = self.open_store(store, format).await?;
        let version = match &reference {
            Reference::Named(number) => log::number(number).within(|| location)?,
            other => {
                return Err(Error::Unsupported(format!(
                    "{location}: there is no {other}, because datasets of format {} have versions with numbers only",
                    opened.format.name()
                )));
            }
        };
        let log = Log::read(&opened.store).await?;
        let entry = log.version(version).within(|| location)?;
        let length = |group: &str, dimension: &str| {
            let path = match group {
                "" => dimension.to_owned(),
                group => format!("{group}/{dimension}"),
            };
            entry.lengths.get(&path).copied()
        };
        Ok(Arc::new(Opened {
            store: opened.store.clone(),
            dataset: cut(&opened.dataset, &length).within(|| location)?,
            format: opened.format,
            reference: None,
            target: None,
            members: Vec::new(),
            together: None,
            tables: OnceLock::new(),
        }))
    }

    /// The store at a location.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub(crate) fn store(&self, location: &str) -> Result<Store> {
        self.stores.open(location)
    }

    /// Reaches what is at or below a location with options of its store, which count more than those of the environment.
    pub fn reach(&self, location: &str, options: Vec<(String, String)>) {
        self.stores.reach(location, options);
    }

    /// Lets statements use only the locations that `guard` allows.
    pub fn confine(&self, guard: Arc<dyn Guard>) {
        *self.guard.write() = Some(guard);
    }

    /// The path or URL that a location means, which a statement names.
    ///
    /// # Errors
    /// `Forbidden` when it must not be used so.
    pub fn place(&self, location: &str, access: Access) -> Result<String> {
        match self.guard.read().as_ref() {
            Some(guard) => guard.place(location, access),
            None => Ok(location.to_owned()),
        }
    }

    /// Whether only some locations may be used.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        self.guard.read().is_some()
    }

    /// The dataset at a location to be changed.
    ///
    /// # Errors
    /// As [`Catalog::open`]; `Invalid` for an earlier version, `Forbidden` when it must not be changed.
    pub async fn target(&self, location: &str) -> Result<Target> {
        self.place(location::split(location).0, Access::Write)?;
        let opened = self.open(location).await?;
        opened.target.clone().ok_or_else(|| {
            Error::Invalid(format!(
                "{location} is an earlier version, which cannot be changed"
            ))
        })
    }

    /// Opens the dataset at the location of a store, as it is now.
    ///
    /// # Errors
    /// As [`Catalog::open_as`].
    pub async fn open_store(&self, store: Store, format: Option<&str>) -> Result<Arc<Opened>> {
        let location = store.location().to_owned();
        let location = location.as_str();
        let kind = store.kind().await?;
        // Readers of a commit that was cut short would see a part of it.
        let store = append::recover(&store, append_options(&self.options())?).await?;
        // Directories have no identity: a change deep within them does not show at their root.
        let identity = match kind {
            Kind::Object if store.is_local() => store.identity()?.map(Seen::File),
            Kind::Object => store.state().await?.map(Seen::Object),
            Kind::Directory => None,
        };
        if let (Some(identity), Some((kept, opened))) = (&identity, self.kept.lock().get(location))
            && identity == kept
            && format.is_none()
        {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new(open(store, kind, format).await?);
        if let Some(identity) = identity {
            let mut kept = self.kept.lock();
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(location.to_owned(), (identity, Arc::clone(&opened)));
        }
        Ok(opened)
    }

    /// Gives the dataset at `location` a name by which statements can call it.
    pub(crate) fn name(&self, name: &str, location: &str) {
        self.registered
            .write()
            .insert(name.to_owned(), location.to_owned());
    }

    /// The location of a named dataset.
    pub(crate) fn location_of(&self, name: &str) -> Option<String> {
        self.registered.read().get(name).cloned()
    }

    /// The names given to datasets, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.registered.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// Takes the name of a dataset away again.
    pub(crate) fn forget(&self, name: &str) -> bool {
        self.registered.write().remove(name).is_some()
    }

    /// The session whose settings decide how datasets are decoded.
    pub(crate) fn attach(&self, session: Weak<RwLock<SessionState>>) {
        *self.session.write() = Some(session);
    }

    /// The current settings.
    pub(crate) fn options(&self) -> HyperslabOptions {
        self.session
            .read()
            .as_ref()
            .and_then(Weak::upgrade)
            .and_then(|session| session.options())
            .unwrap_or_default()
    }
}

/// The format of a dataset that is to be made, by the extension of its location: Zarr, if that says nothing.
#[must_use]
pub fn format_for(location: &str) -> &'static dyn Format {
    let extension = location.trim_end_matches('/').rsplit_once('.');
    match extension.map_or("", |(_, extension)| extension) {
        "nc" | "nc4" | "cdf" | "h5" | "hdf5" | "hdf" => &Hdf5,
        "b2nd" | "b2d" | "b2frame" => &Blosc2,
        #[cfg(feature = "icechunk")]
        "icechunk" => &Icechunk,
        _ => &Zarr,
    }
}

async fn open(store: Store, kind: Kind, format: Option<&str>) -> Result<Opened> {
    let location = store.location().to_owned();
    let head = match kind {
        Kind::Directory => bytes::Bytes::new(),
        Kind::Object => {
            let length = usize::try_from(store.size("").await?.min(HEAD)).unwrap_or(0);
            store.range("", 0, length).await?
        }
    };
    let found = match recognise(&store, &head, format).await {
        // What a web server says of the location itself tells more.
        Err(error @ Error::Unsupported(_)) if store.is_web() => {
            store.size("").await?;
            return Err(error);
        }
        found => found?,
    };
    let mut dataset = found.open(&store).await.within(|| &location)?;
    interpret(&mut dataset.root);
    Ok(Opened {
        target: Some(Target::new(store.clone(), found)),
        store,
        dataset,
        format: found,
        reference: None,
        members: Vec::new(),
        together: None,
        tables: OnceLock::new(),
    })
}

/// The format that a location is in, by its first bytes; it has to be the one called `format`, if that is given.
async fn recognise(
    store: &Store,
    head: &[u8],
    format: Option<&str>,
) -> Result<&'static dyn Format> {
    let location = store.location();
    for candidate in FORMATS {
        if !candidate.sniff(store, head).await? {
            continue;
        }
        if let Some(wanted) = format
            && !is_called(candidate.name(), wanted)
        {
            return Err(Error::Invalid(format!(
                "{location} is stored as {}, not as {wanted}",
                candidate.name()
            )));
        }
        return Ok(*candidate);
    }
    Err(Error::Unsupported(match head.get(..4) {
        Some(b"PK\x03\x04") => {
            format!(
                "{location} is a zip archive, which cannot be read yet; unpack it into a directory"
            )
        }
        _ => format!(
            "{location} is not an array dataset: it is neither netCDF, HDF5, Zarr, Icechunk, nor Blosc2"
        ),
    }))
}

/// Gives characters and bounds the meaning that the conventions give them: characters are joined to words, bounds have
/// the units of what they bound.
fn interpret(root: &mut Group) {
    join_words(root);
    let variables: HashMap<String, Arc<Variable>> = root
        .walk()
        .into_iter()
        .flat_map(|group| group.variables.iter())
        .map(|variable| (variable.path.clone(), Arc::clone(variable)))
        .collect();
    let roles = roles::roles(root);
    inherit_units(root, &roles, &variables);
}

fn inherit_units(
    group: &mut Group,
    roles: &HashMap<String, Role>,
    variables: &HashMap<String, Arc<Variable>>,
) {
    for variable in &mut group.variables {
        if let Some(Role::Bounds { of }) = roles.get(&variable.path)
            && let Some(bounded) = variables.get(of)
        {
            *variable = Arc::new(roles::inherit(variable, bounded));
        }
    }
    for child in &mut group.groups {
        inherit_units(child, roles, variables);
    }
}

/// Whether a format goes by a name of `STORED AS`.
fn is_called(format: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "netcdf" | "nc" | "cdf" => matches!(format, "hdf5" | "netcdf3"),
        "netcdf4" | "nc4" | "hdf" | "h5" => format == "hdf5",
        "b2nd" | "b2d" => format == "blosc2",
        name => format == name,
    }
}
