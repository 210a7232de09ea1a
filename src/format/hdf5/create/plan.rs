//! The plan of a new file: groups, dimensions and datasets of a blueprint, as netCDF-4 keeps them.

use crate::array::blueprint::{Blueprint, Codecs, NewVariable};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};
use crate::codec::encode::Encoder;
use crate::error::{Error, Result, Within};
use crate::format::hdf5::attributes::HIDDEN;

/// Effort of deflate where nobody says otherwise, as the netCDF library has it.
const LEVEL: u8 = 4;
/// The attribute that says which value stands for a missing one.
const FILL: &str = "_FillValue";

/// What a new file holds.
#[derive(Debug)]
pub(super) struct Plan {
    /// Parents before children, the root first.
    pub(super) groups: Vec<PlannedGroup>,
    /// In the order of their numbers.
    pub(super) dimensions: Vec<PlannedDimension>,
    /// In the order in which they are created.
    pub(super) datasets: Vec<PlannedDataset>,
}

#[derive(Debug)]
pub(super) struct PlannedGroup {
    pub(super) path: String,
    /// Its place in the list of groups.
    pub(super) parent: Option<usize>,
    pub(super) attributes: Attributes,
}

#[derive(Debug)]
pub(super) struct PlannedDimension {
    group: usize,
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) unlimited: bool,
    /// The variable that is its scale; else there is a dataset for nothing but that.
    variable: Option<usize>,
}

#[derive(Debug)]
pub(super) struct PlannedDataset {
    pub(super) group: usize,
    /// What the group calls it.
    pub(super) name: String,
    /// The dimension that it is the scale of.
    pub(super) scale_of: Option<usize>,
    /// Places of its dimensions in the list of all.
    pub(super) dimensions: Vec<usize>,
    pub(super) chunk: Vec<u64>,
    /// `None` for what is only the scale of a dimension.
    pub(super) variable: Option<PlannedVariable>,
}

#[derive(Debug)]
pub(super) struct PlannedVariable {
    pub(super) element: ElementType,
    pub(super) steps: Vec<Encoder>,
    /// One element.
    pub(super) fill: Vec<u8>,
    pub(super) attributes: Attributes,
}

impl Plan {
    /// The plan for a blueprint.
    ///
    /// # Errors
    /// `Invalid` when it contradicts itself, `Unsupported` when netCDF-4 cannot hold what it asks for.
    pub(super) fn new(blueprint: &Blueprint) -> Result<Self> {
        let paths = blueprint.paths();
        let position = |path: &str| paths.iter().position(|other| other == path);
        let mut plan = Self {
            groups: Vec::with_capacity(paths.len()),
            dimensions: Vec::new(),
            datasets: Vec::new(),
        };
        for path in &paths {
            let (outer, name) = path.rsplit_once('/').unwrap_or(("", path));
            if !path.is_empty() {
                check_name(name).within(|| format!("group {path}"))?;
            }
            plan.groups.push(PlannedGroup {
                path: path.clone(),
                parent: position(outer).filter(|_| !path.is_empty()),
                attributes: blueprint.attributes(path),
            });
        }
        for group in &blueprint.groups {
            let at = position(&group.path).unwrap_or(0);
            for dimension in &group.dimensions {
                plan.declare(at, &dimension.name, dimension.length, dimension.unlimited)?;
            }
        }
        let mut variables = Vec::with_capacity(blueprint.variables.len());
        for variable in &blueprint.variables {
            let outer = variable
                .path
                .rsplit_once('/')
                .map_or("", |(outer, _)| outer);
            let planned = plan.variable(position(outer).unwrap_or(0), variable);
            variables.push(planned.within(|| format!("variable {}", variable.path))?);
        }
        plan.assemble(variables);
        plan.check_names()?;
        Ok(plan)
    }

    fn declare(&mut self, group: usize, name: &str, length: u64, unlimited: bool) -> Result<usize> {
        check_name(name).within(|| format!("dimension {name}"))?;
        self.dimensions.push(PlannedDimension {
            group,
            name: name.to_owned(),
            length,
            // The netCDF library knows no other dimensions without any index.
            unlimited: unlimited || length == 0,
            variable: None,
        });
        Ok(self.dimensions.len() - 1)
    }

    /// The dimension that a name means in a group: its own, or one of a group around it.
    fn visible(&self, group: usize, name: &str) -> Option<usize> {
        let outwards = std::iter::successors(Some(group), |at| self.groups.get(*at)?.parent);
        outwards.into_iter().find_map(|group| {
            let mut dimensions = self.dimensions.iter();
            dimensions.position(|dimension| dimension.group == group && dimension.name == name)
        })
    }

    /// The dimension of a variable that has this extent along it.
    fn dimension(&mut self, group: usize, name: &str, extent: u64) -> Result<usize> {
        let Some(at) = self.visible(group, name) else {
            return self.declare(group, name, extent, false);
        };
        match self.dimensions.get(at) {
            Some(dimension) if dimension.length == extent => Ok(at),
            _ => Err(Error::Invalid(format!(
                "its extent along {name} is {extent}, which is not the length of that dimension"
            ))),
        }
    }

    fn variable(&mut self, group: usize, new: &NewVariable) -> Result<PlannedDataset> {
        check_name(new.name())?;
        new.grid()?;
        if new.shard.is_some() {
            return Err(Error::Unsupported("netCDF-4 has no shards".into()));
        }
        let mut dimensions = Vec::with_capacity(new.dimensions.len());
        for (name, extent) in new.dimensions.iter().zip(&new.shape) {
            dimensions.push(self.dimension(group, name, *extent)?);
        }
        let mut chunk = Vec::with_capacity(new.chunk.len());
        for (extent, at) in new.chunk.iter().zip(&dimensions) {
            // A chunk may be longer than what it is in only where that can grow.
            chunk.push(match self.dimensions.get(*at) {
                Some(dimension) if !dimension.unlimited => (*extent).min(dimension.length),
                _ => *extent,
            });
        }
        let mut attributes = new.attributes.clone();
        attributes
            .0
            .retain(|(name, _)| !HIDDEN.contains(&name.as_str()));
        let mut fill = new.declared_fill()?;
        let element = match new.element {
            ElementType::Bytes(bytes) => self.word(group, bytes.into(), &mut dimensions)?,
            // A character may need four bytes.
            ElementType::Utf32(characters) => {
                self.word(group, u64::from(characters) * 4, &mut dimensions)?
            }
            ElementType::Bool => ElementType::Int8,
            element => element,
        };
        if dimensions.len() > new.dimensions.len() {
            let word = dimensions.last().and_then(|at| self.dimensions.get(*at));
            chunk.extend(word.map(|word| word.length));
            fill = None;
        }
        let own = |name: &str, value: &str| (name.to_owned(), AttributeValue::Text(value.into()));
        // As xarray tells itself what such elements stand for.
        match new.element {
            ElementType::Bool => set(&mut attributes, own("dtype", "bool")),
            ElementType::Bytes(_) | ElementType::Utf32(_) => {
                set(&mut attributes, own("_Encoding", "utf-8"));
            }
            _ => {}
        }
        let usual = || element.netcdf_fill().or(Some(vec![0; element.size()?]));
        if element == ElementType::Char {
            fill = attributes.text(FILL).map(|text| text.as_bytes().to_vec());
            fill = fill.filter(|fill| fill.len() == 1);
        }
        if fill.is_none() {
            attributes.0.retain(|(name, _)| name != FILL);
        }
        let fill = fill
            .or_else(usual)
            .ok_or_else(|| Error::Unsupported("text of any length cannot be written".to_owned()))?;
        let size = u32::try_from(fill.len()).unwrap_or(1);
        let steps = match &new.codecs {
            Codecs::Usual if size > 1 => {
                vec![Encoder::Shuffle(size), Encoder::Zlib { level: LEVEL }]
            }
            Codecs::Usual => vec![Encoder::Zlib { level: LEVEL }],
            Codecs::Steps(steps) => steps.clone(),
        };
        let scale_of = dimensions.first().copied().filter(|at| {
            let first = self.dimensions.get(*at);
            first.is_some_and(|first| first.group == group && first.name == new.name())
        });
        let is_taken =
            |dimension: &PlannedDimension| dimension.group == group && dimension.name == new.name();
        let name = if scale_of.is_none() && self.dimensions.iter().any(is_taken) {
            format!("{NO_COORDINATE}{}", new.name())
        } else {
            new.name().to_owned()
        };
        Ok(PlannedDataset {
            group,
            name,
            scale_of,
            dimensions,
            chunk,
            variable: Some(PlannedVariable {
                element,
                steps,
                fill,
                attributes,
            }),
        })
    }

    /// Makes words characters, with a dimension for those of a word.
    fn word(
        &mut self,
        group: usize,
        bytes: u64,
        dimensions: &mut Vec<usize>,
    ) -> Result<ElementType> {
        let bytes = bytes.max(1);
        let is_it =
            |dimension: &PlannedDimension| dimension.length == bytes && !dimension.unlimited;
        // As xarray calls it, or with a letter more where that is something else.
        let mut name = format!("string{bytes}");
        let at = loop {
            match self.visible(group, &name) {
                None => break self.declare(group, &name, bytes, false)?,
                Some(at) if self.dimensions.get(at).is_some_and(is_it) => break at,
                Some(_) => name.push('_'),
            }
        };
        dimensions.push(at);
        Ok(ElementType::Char)
    }

    /// Puts the scales of dimensions that are no variables before the variables.
    fn assemble(&mut self, variables: Vec<PlannedDataset>) {
        let is_scale = |at: usize| {
            let mut scales = variables.iter().filter_map(|variable| variable.scale_of);
            scales.any(|of| of == at)
        };
        for (at, dimension) in self.dimensions.iter().enumerate() {
            if is_scale(at) {
                continue;
            }
            self.datasets.push(PlannedDataset {
                group: dimension.group,
                name: dimension.name.clone(),
                scale_of: Some(at),
                dimensions: vec![at],
                chunk: vec![BARE_CHUNK],
                variable: None,
            });
        }
        self.datasets.extend(variables);
        for (at, dataset) in self.datasets.iter().enumerate() {
            let of = dataset.scale_of.and_then(|of| self.dimensions.get_mut(of));
            if let Some(dimension) = of {
                dimension.variable = Some(at);
            }
        }
    }

    /// Refuses two members of a group that have one name.
    fn check_names(&self) -> Result<()> {
        let mut names = std::collections::HashSet::new();
        let datasets = self.datasets.iter();
        let datasets = datasets.map(|dataset| (dataset.group, dataset.name.as_str()));
        let groups = self.groups.iter().filter_map(|group| {
            let name = group.path.rsplit_once('/').map_or(&*group.path, |(_, n)| n);
            Some((group.parent?, name))
        });
        for (group, name) in datasets.chain(groups) {
            if !names.insert((group, name)) {
                return Err(Error::Invalid(format!(
                    "two variables, dimensions or groups are called {name}"
                )));
            }
        }
        Ok(())
    }

    /// The dataset that is the scale of a dimension.
    pub(super) fn scale(&self, dimension: usize) -> Option<usize> {
        self.dimensions.get(dimension)?.variable
    }
}

/// What a variable is named by that has the name of a dimension it is not the coordinate of.
const NO_COORDINATE: &str = "_nc4_non_coord_";
/// Extent of the chunks of what is only the scale of a dimension, of which none is ever written.
const BARE_CHUNK: u64 = 1024;

fn check_name(name: &str) -> Result<()> {
    let is_name = !matches!(name, "" | ".") && !name.contains(['/', '\0']);
    if is_name && name.len() <= 256 {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "netCDF-4 has no names like {name:?}"
    )))
}

fn set(attributes: &mut Attributes, (name, value): (String, AttributeValue)) {
    attributes.0.retain(|(other, _)| *other != name);
    attributes.0.push((name, value));
}
