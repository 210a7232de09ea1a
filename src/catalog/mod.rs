//! From a location to the tables of the dataset there; the list of formats.

pub mod describe;
pub mod factory;
pub mod functions;
pub mod provider;
pub mod tables;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use datafusion::execution::SessionState;
use parking_lot::{Mutex, RwLock};

use crate::append;
use crate::array::{Dataset, Group, Variable};
use crate::catalog::tables::TableParts;
use crate::cf::join_chars;
use crate::cf::roles::{self, Role};
use crate::error::{Error, Result, Within};
use crate::format::Format;
use crate::format::blosc2::Blosc2;
use crate::format::hdf5::Hdf5;
use crate::format::zarr::Zarr;
use crate::query::HyperslabOptions;
use crate::query::insert::append_options;
use crate::store::{Kind, Store};

/// Every format, in the order in which a location is tried.
pub const FORMATS: &[&dyn Format] = &[&Hdf5, &Zarr, &Blosc2];

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
    /// Its tables, once they have been asked for.
    tables: OnceLock<Vec<TableParts>>,
}

/// Opens datasets, and keeps the metadata of those that are one object until the object changes.
#[derive(Debug, Default)]
pub struct Catalog {
    kept: Mutex<HashMap<String, (Validator, Arc<Opened>)>>,
    registered: RwLock<HashMap<String, String>>,
    session: RwLock<Option<Weak<RwLock<SessionState>>>>,
}

/// What tells that an object has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Validator {
    size: u64,
    modified: Option<SystemTime>,
}

impl Catalog {
    /// Opens the dataset at a location, a path or URL, in whichever format it is.
    ///
    /// # Errors
    /// `NotFound` when there is nothing, `Unsupported` when it is in none of the formats, and what the format says.
    pub async fn open(&self, location: &str) -> Result<Arc<Opened>> {
        self.open_as(location, None).await
    }

    /// Opens the dataset at a location as one of the format called `format`, or in whichever format it is.
    ///
    /// # Errors
    /// As [`Catalog::open`]; `Invalid` when the dataset is not of the format asked for.
    pub async fn open_as(&self, location: &str, format: Option<&str>) -> Result<Arc<Opened>> {
        self.open_store(Store::open(location)?, format).await
    }

    /// Opens the dataset at the location of a store, as [`Catalog::open_as`].
    ///
    /// # Errors
    /// As [`Catalog::open_as`].
    pub async fn open_store(&self, store: Store, format: Option<&str>) -> Result<Arc<Opened>> {
        let location = store.location().to_owned();
        let location = location.as_str();
        let kind = store.kind().await?;
        // Readers of a commit that was cut short would see a part of it.
        append::recover(&store, append_options(&self.options())?).await?;
        let validator = validator(location, kind);
        if let (Some(validator), Some((kept, opened))) =
            (&validator, self.kept.lock().get(location))
            && validator == kept
            && format.is_none()
        {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new(open(store, kind, format).await?);
        if let Some(validator) = validator {
            let mut kept = self.kept.lock();
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(location.to_owned(), (validator, Arc::clone(&opened)));
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
            .and_then(|state| {
                let state = state.read();
                let options = state.config_options().extensions.get::<HyperslabOptions>();
                options.cloned()
            })
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
    for candidate in FORMATS {
        if !candidate.sniff(&store, &head).await? {
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
        let mut dataset = candidate.open(&store).await.within(|| &location)?;
        interpret(&mut dataset.root);
        return Ok(Opened {
            store,
            dataset,
            format: *candidate,
            tables: OnceLock::new(),
        });
    }
    Err(Error::Unsupported(match head.get(..4) {
        Some(b"CDF\x01" | b"CDF\x02" | b"CDF\x05") => format!(
            "{location} is a netCDF-3 file, which cannot be read yet; nccopy -k nc4 makes a netCDF-4 file of it"
        ),
        Some(b"PK\x03\x04") => {
            format!(
                "{location} is a zip archive, which cannot be read yet; unpack it into a directory"
            )
        }
        _ => format!(
            "{location} is not an array dataset: it is neither netCDF-4 or HDF5, Zarr, nor Blosc2"
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

fn join_words(group: &mut Group) {
    for variable in &mut group.variables {
        if let Some(words) = join_chars(variable) {
            *variable = Arc::new(words);
        }
    }
    group.groups.iter_mut().for_each(join_words);
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
        "netcdf" | "netcdf4" | "nc" | "hdf" => format == "hdf5",
        "b2nd" => format == "blosc2",
        name => format == name,
    }
}

/// Directories have no validator: a change deep within them does not show at their root.
fn validator(location: &str, kind: Kind) -> Option<Validator> {
    if kind == Kind::Directory {
        return None;
    }
    let path = location.strip_prefix("file://").unwrap_or(location);
    let metadata = std::fs::metadata(path).ok()?;
    Some(Validator {
        size: metadata.len(),
        modified: metadata.modified().ok(),
    })
}
