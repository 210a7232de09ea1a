//! Dimensions: the rules by which netCDF-4 keeps them in an HDF5 file.

use std::collections::HashMap;

use crate::format::hdf5::dataset::{Place, Stored};
use crate::format::hdf5::storage::File;
use crate::format::hdf5::tree::{Dataset, Node};

/// What the scale of a dimension that is no variable is named.
const NO_VARIABLE: &str = "This is a netCDF dimension but not a netCDF variable";
/// What a variable is named by that has the name of a dimension it is not the coordinate of.
const NO_COORDINATE: &str = "_nc4_non_coord_";

/// A dimension of a group.
#[derive(Debug)]
pub(super) struct Named {
    /// The group it is declared in.
    pub(super) group: usize,
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) unlimited: bool,
    /// The number that netCDF-4 knows it by.
    id: i128,
    /// Address of its scale.
    pub(super) scale: Option<u64>,
}

/// The dimensions of a file, and those of its datasets.
#[derive(Debug)]
pub(super) struct Dimensions {
    pub(super) all: Vec<Named>,
    /// For each group, for each dataset, for each of its dimensions its place in `all`.
    pub(super) of: Vec<Vec<Vec<usize>>>,
}

/// Whether a file is netCDF-4 by what is in it.
pub(super) fn is_netcdf(file: &File, nodes: &[Node]) -> bool {
    let root = nodes.first().map(|root| root.attributes.as_slice());
    let named = root.unwrap_or_default();
    named.iter().any(|a| a.name == "_NCProperties")
        || nodes.iter().flat_map(|node| &node.datasets).any(|dataset| {
            dataset.attribute("_Netcdf4Dimid").is_some() || !is_variable(file, dataset)
        })
}

/// Whether a dataset is a variable, and not only the scale of a dimension.
pub(super) fn is_variable(file: &File, dataset: &Dataset) -> bool {
    let name = || dataset.attribute("NAME").and_then(|name| name.text(file));
    !(is_scale(file, dataset) && name().is_some_and(|name| name.starts_with(NO_VARIABLE)))
}

/// The name of the variable that a dataset is.
pub(super) fn variable_name(dataset: &Dataset) -> &str {
    match dataset.name.strip_prefix(NO_COORDINATE) {
        Some(name) if !name.is_empty() => name,
        _ => &dataset.name,
    }
}

/// The extent of a variable: where an unlimited dimension is longer than the dataset, that of the dimension.
pub(super) fn shape(dimensions: &[Named], of: &[usize], dataset: &Dataset) -> Vec<u64> {
    let stored = full_shape(dataset);
    let lengths = of.iter().map(|at| dimensions.get(*at));
    stored
        .iter()
        .zip(lengths)
        .map(|(n, dimension)| match dimension {
            Some(dimension) if dimension.unlimited => dimension.length.max(*n),
            _ => *n,
        })
        .collect()
}

impl Dimensions {
    /// Finds the dimensions of all datasets. `labels`: take the labels of dimensions that have no scale as their names.
    pub(super) fn find(file: &File, nodes: &[Node], labels: bool) -> Self {
        let mut find = Find {
            file,
            nodes,
            labels,
            next_id: 0,
            by_scale: HashMap::new(),
            by_group: vec![Vec::new(); nodes.len()],
            all: Vec::new(),
            of: nodes.iter().map(|_| Vec::new()).collect(),
        };
        find.declare();
        find.attach(0);
        find.measure();
        Self {
            all: find.all,
            of: find.of,
        }
    }
}

struct Find<'a> {
    file: &'a File,
    nodes: &'a [Node],
    labels: bool,
    next_id: i128,
    by_scale: HashMap<u64, Vec<usize>>,
    by_group: Vec<Vec<usize>>,
    all: Vec<Named>,
    of: Vec<Vec<Vec<usize>>>,
}

impl Find<'_> {
    /// Every scale is a dimension of its group.
    fn declare(&mut self) {
        for (group, node) in self.nodes.iter().enumerate() {
            for dataset in &node.datasets {
                let (Some(length), Some(most)) = (dataset.shape.first(), dataset.most.first())
                else {
                    continue;
                };
                if !is_scale(self.file, dataset) {
                    continue;
                }
                let assigned = dataset
                    .attribute("_Netcdf4Dimid")
                    .and_then(|id| id.integers(self.file).first().copied());
                let dimension = Named {
                    group,
                    name: dataset.name.clone(),
                    length: *length,
                    unlimited: most.is_none(),
                    id: assigned.unwrap_or(self.next_id),
                    scale: Some(dataset.address),
                };
                self.add(dimension);
            }
        }
    }

    fn add(&mut self, dimension: Named) -> usize {
        let at = self.all.len();
        self.next_id = self.next_id.max(dimension.id.saturating_add(1));
        if let Some(scale) = dimension.scale {
            self.by_scale.entry(scale).or_default().push(at);
        }
        if let Some(dimensions) = self.by_group.get_mut(dimension.group) {
            dimensions.push(at);
        }
        self.all.push(dimension);
        at
    }

    /// Gives the datasets of a group their dimensions, those of the groups within it first: the order in which the
    /// netCDF-4 library numbers dimensions without a name.
    fn attach(&mut self, group: usize) {
        let nodes = self.nodes;
        let Some(node) = nodes.get(group) else { return };
        for child in &node.children {
            self.attach(*child);
        }
        let of = node
            .datasets
            .iter()
            .map(|dataset| self.dimensions_of(group, dataset))
            .collect();
        if let Some(place) = self.of.get_mut(group) {
            *place = of;
        }
    }

    fn dimensions_of(&mut self, group: usize, dataset: &Dataset) -> Vec<usize> {
        if !is_variable(self.file, dataset) {
            return Vec::new();
        }
        let scales = self.scales_of(group, dataset);
        let labels = if self.labels {
            dataset
                .attribute("DIMENSION_LABELS")
                .map(|labels| labels.texts(self.file))
                .unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut of = Vec::new();
        for (axis, length) in full_shape(dataset).into_iter().enumerate() {
            let unlimited = matches!(dataset.most.get(axis), Some(None));
            let scale = scales.get(axis).copied().flatten().filter(|at| {
                let dimension = self.all.get(*at);
                dimension.is_some_and(|d| d.unlimited || d.length == length)
            });
            let label = labels.get(axis).filter(|label| !label.is_empty());
            let at = match (scale, label) {
                (Some(at), _) => at,
                (None, Some(label)) => self
                    .labelled(group, label, length, unlimited, &of)
                    .unwrap_or_else(|| self.anonymous(group, length, unlimited, &of)),
                (None, None) => self.anonymous(group, length, unlimited, &of),
            };
            of.push(at);
        }
        of
    }

    /// The dimensions that the dataset itself names, one an axis.
    fn scales_of(&self, group: usize, dataset: &Dataset) -> Vec<Option<usize>> {
        let mut scales = vec![None; dataset.shape.len()];
        if is_scale(self.file, dataset) && scales.len() == 1 {
            return vec![self.visible(group, dataset.address)];
        }
        let references = dataset
            .attribute("DIMENSION_LIST")
            .and_then(|list| list.reference_lists(self.file).ok())
            .unwrap_or_default();
        for (scale, reference) in scales.iter_mut().zip(references) {
            *scale = reference.and_then(|address| self.visible(group, address));
        }
        let ids = dataset
            .attribute("_Netcdf4Coordinates")
            .map(|ids| ids.integers(self.file))
            .unwrap_or_default();
        for (scale, id) in scales.iter_mut().zip(ids) {
            *scale = scale.or_else(|| self.with_id(group, id));
        }
        if is_scale(self.file, dataset)
            && let Some(first @ None) = scales.first_mut()
        {
            *first = self.visible(group, dataset.address);
        }
        scales
    }

    fn ancestors(&self, group: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(group), |at| self.nodes.get(*at)?.parent)
    }

    /// The dimension with this scale that is visible in a group: its own, or one of a group around it.
    fn visible(&self, group: usize, scale: u64) -> Option<usize> {
        let candidates = self.by_scale.get(&scale)?;
        self.ancestors(group).find_map(|group| {
            let declared_here = |at: &&usize| self.all.get(**at).is_some_and(|d| d.group == group);
            candidates.iter().find(declared_here).copied()
        })
    }

    fn with_id(&self, group: usize, id: i128) -> Option<usize> {
        self.ancestors(group).find_map(|group| {
            let mut declared = self.by_group.get(group)?.iter();
            let is_it = |at: &&usize| self.all.get(**at).is_some_and(|d| d.id == id);
            declared.find(is_it).copied()
        })
    }

    /// The dimension of the group that a label names; `None` when it has another length or the array has it already.
    fn labelled(
        &mut self,
        group: usize,
        label: &str,
        length: u64,
        unlimited: bool,
        used: &[usize],
    ) -> Option<usize> {
        let declared = self.by_group.get(group)?;
        let known = declared
            .iter()
            .find(|at| self.all.get(**at).is_some_and(|d| d.name == label));
        match known {
            Some(at) => {
                let fits = self.all.get(*at).is_some_and(|d| d.length == length);
                (fits && !used.contains(at)).then_some(*at)
            }
            None => Some(self.add(Named {
                group,
                name: label.to_owned(),
                length,
                unlimited,
                id: self.next_id,
                scale: None,
            })),
        }
    }

    /// A dimension of the group of this length that the array does not have yet, or a new one.
    fn anonymous(&mut self, group: usize, length: u64, unlimited: bool, used: &[usize]) -> usize {
        let fits = |at: &&usize| {
            let same = |d: &Named| d.length == length && d.unlimited == unlimited;
            self.all.get(**at).is_some_and(same) && !used.contains(at)
        };
        let declared = self
            .by_group
            .get(group)
            .and_then(|all| all.iter().find(fits));
        match declared {
            Some(at) => *at,
            None => self.add(Named {
                group,
                name: format!("phony_dim_{}", self.next_id),
                length,
                unlimited,
                id: self.next_id,
                scale: None,
            }),
        }
    }

    /// An unlimited dimension is as long as the longest dataset along it.
    fn measure(&mut self) {
        let nodes = self.nodes;
        let mut lengths = HashMap::new();
        for (node, of) in nodes.iter().zip(&self.of) {
            for (dataset, of) in node.datasets.iter().zip(of) {
                for (at, n) in of.iter().zip(&dataset.shape) {
                    let longest = lengths.entry(*at).or_insert(0);
                    *longest = (*n).max(*longest);
                }
            }
        }
        for (at, length) in lengths {
            if let Some(dimension) = self.all.get_mut(at)
                && dimension.unlimited
            {
                dimension.length = length;
            }
        }
        // Only chunks can be missing at the end.
        for (group, node) in nodes.iter().enumerate() {
            for (place, dataset) in node.datasets.iter().enumerate() {
                if !is_chunked(dataset) {
                    self.cut(group, place, dataset);
                }
            }
        }
    }

    /// Takes dimensions that are longer than the dataset from it.
    fn cut(&mut self, group: usize, place: usize, dataset: &Dataset) {
        let of = self.of.get(group).and_then(|all| all.get(place));
        let mut of = of.cloned().unwrap_or_default();
        for axis in 0..of.len() {
            let (Some(at), Some(n)) = (of.get(axis).copied(), dataset.shape.get(axis)) else {
                continue;
            };
            if self.all.get(at).is_some_and(|d| d.length != *n) {
                let new = self.anonymous(group, *n, false, &of);
                if let Some(at) = of.get_mut(axis) {
                    *at = new;
                }
            }
        }
        if let Some(old) = self.of.get_mut(group).and_then(|all| all.get_mut(place)) {
            *old = of;
        }
    }
}

/// The extent of a dataset with that of its elements.
fn full_shape(dataset: &Dataset) -> Vec<u64> {
    let inner = match &dataset.stored {
        Ok(stored) => stored.inner.as_slice(),
        Err(_) => &[],
    };
    [dataset.shape.as_slice(), inner].concat()
}

fn is_chunked(dataset: &Dataset) -> bool {
    matches!(
        dataset.stored,
        Ok(Stored {
            place: Place::Chunked { .. },
            ..
        })
    )
}

fn is_scale(file: &File, dataset: &Dataset) -> bool {
    let class = || {
        dataset
            .attribute("CLASS")
            .and_then(|class| class.text(file))
    };
    !dataset.shape.is_empty() && class().is_some_and(|class| class == "DIMENSION_SCALE")
}
