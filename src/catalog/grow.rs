//! A file more for a dataset of several: where it is made, and what it is to be.

use std::sync::Arc;

use async_trait::async_trait;

use crate::append::Target;
use crate::array::blueprint::{Blueprint, Codecs, NewGroup, NewVariable};
use crate::array::{Dataset, Dimension, Variable};
use crate::catalog::files::{Files, Together};
use crate::catalog::guard::Access;
use crate::catalog::tables::{TableParts, decode_options};
use crate::catalog::{Catalog, Opened, format_called};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::query::HyperslabOptions;
use crate::query::insert::{self, InsertTarget, Present};
use crate::store::{Kind, Store};

/// Bytes that a chunk of a new file has at most where that of the model is its whole variable.
const CHUNK: u64 = 4 << 20;

/// The files of a dataset, to which others can be added.
#[derive(Debug)]
struct Growing {
    catalog: Arc<Catalog>,
    files: Files,
    /// The format of the first of them.
    format: &'static dyn Format,
    /// What a writer locks.
    lock: Store,
}

/// Where rows of a table of several files are inserted; `None` where the dataset is not several.
pub(super) fn target(
    catalog: &Arc<Catalog>,
    opened: &Opened,
    parts: &TableParts,
    options: &HyperslabOptions,
) -> Option<InsertTarget> {
    let together = opened.together.as_ref()?;
    let first = opened.members.first()?;
    let place = |member: &&Arc<Opened>| member.store.location().to_owned();
    let lock = opened.members.iter().min_by_key(place)?;
    let format = match first.format.name() {
        // Which is not made any more.
        "netcdf3" => format_called("netcdf4")?,
        _ => first.format,
    };
    Some(InsertTarget {
        target: Target::new(opened.store.clone(), format),
        decode: decode_options(first, options),
        group: parts.group().to_owned(),
        files: Some(Arc::new(Growing {
            catalog: Arc::clone(catalog),
            files: together.files.clone(),
            format,
            lock: lock.store.clone(),
        })),
    })
}

#[async_trait]
impl insert::Files for Growing {
    fn lock(&self) -> &Store {
        &self.lock
    }

    async fn now(&self) -> Result<Present> {
        let opened = self.files.open(&self.catalog, None).await?;
        let (
            Some(first),
            Some(Together {
                dimension, values, ..
            }),
        ) = (opened.members.first(), opened.together)
        else {
            return Err(Error::NotFound(format!(
                "{}: the files are not there any more",
                opened.store.location()
            )));
        };
        let along = first.dataset.along("", &dimension);
        let grows =
            |variable: &Arc<Variable>| along.iter().any(|(grown, _)| grown.path == variable.path);
        let groups = first.dataset.root.walk().into_iter();
        let variables = groups.flat_map(|group| group.variables.iter().cloned());
        let version = match (first.format.name(), first.store.kind().await?) {
            ("zarr", Kind::Directory) => {
                let is_newer = first.store.get("zarr.json").await?.is_some();
                Some(if is_newer { 3 } else { 2 })
            }
            _ => None,
        };
        Ok(Present {
            blueprint: Blueprint {
                version,
                ..blueprint(&first.dataset, &dimension, &grows)?
            },
            fixed: variables.filter(|variable| !grows(variable)).collect(),
            store: first.store.clone(),
            dimension,
            values,
        })
    }

    fn place(&self, name: &str) -> Result<Target> {
        let location = self
            .catalog
            .place(&self.files.named(name)?, Access::Write)?;
        Ok(Target::new(self.catalog.store(&location)?, self.format))
    }
}

/// A dataset like `model`, in which a dimension of the root group has no index yet.
fn blueprint(
    model: &Dataset,
    dimension: &str,
    grows: &dyn Fn(&Arc<Variable>) -> bool,
) -> Result<Blueprint> {
    let groups = model.root.walk();
    let mut unreadable = groups.iter().flat_map(|group| &group.unreadable);
    if let Some(array) = unreadable.next() {
        return Err(Error::Unsupported(format!(
            "{}: no file can be made like it, because {} cannot be read: {}",
            model.location, array.name, array.reason
        )));
    }
    let emptied = |own: &Dimension, path: &str| match path.is_empty() && own.name == dimension {
        true => Dimension {
            length: 0,
            unlimited: true,
            ..own.clone()
        },
        false => own.clone(),
    };
    let variables = groups.iter().flat_map(|group| &group.variables);
    Ok(Blueprint {
        version: None,
        groups: groups
            .iter()
            .map(|group| NewGroup {
                path: group.path.clone(),
                attributes: group.attributes.clone(),
                dimensions: group
                    .dimensions
                    .iter()
                    .map(|own| emptied(own, &group.path))
                    .collect(),
            })
            .collect(),
        variables: variables
            .map(|variable| {
                let axis = variable
                    .dimensions
                    .iter()
                    .position(|name| name == dimension);
                new_variable(variable, axis.filter(|_| grows(variable)), model.format)
            })
            .collect(),
    })
}

/// A variable like `model`, with no index along the dimension `grows`.
fn new_variable(model: &Arc<Variable>, grows: Option<usize>, format: &str) -> NewVariable {
    let layout = &model.layout;
    let mut shape = model.shape().to_vec();
    let mut chunk = layout.grid.chunk_shape().to_vec();
    let size = layout.element.size().unwrap_or(1) as u64;
    if let Some(axis) = grows
        && let (Some(length), Some(extent)) = (shape.get_mut(axis), chunk.get_mut(axis))
    {
        // A variable that is stored in one piece is no example.
        let bytes = layout.grid.chunk_cells().saturating_mul(size);
        if *extent >= *length && bytes > CHUNK {
            let slice = (bytes / (*extent).max(1)).max(1);
            *extent = (CHUNK / slice).max(1);
        }
        *length = 0;
    }
    let has_fill = model.attributes.get("_FillValue").is_some();
    let is_netcdf = matches!(format, "netcdf4" | "netcdf3" | "hdf5");
    NewVariable {
        path: model.path.clone(),
        element: layout.element,
        dimensions: model.dimensions.clone(),
        shape,
        chunk,
        shard: None,
        codecs: Codecs::like(&layout.pipeline),
        fill: (!has_fill && !is_netcdf && !layout.fill.is_empty()).then(|| layout.fill.clone()),
        attributes: model.attributes.clone(),
    }
}
