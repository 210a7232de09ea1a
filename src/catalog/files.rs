//! Several files as one dataset: `dir/tas_*.nc` is one table along time, each file a part of it.
//!
//! ```text
//! pattern  ->  files            those that match, each opened as a dataset of its own
//!          ->  dimension        the one along which they differ, or `#along=time`
//!          ->  order            by its coordinate; files that overlap are refused, and so are other dimensions that differ
//!          ->  dataset          variables along the dimension are continued from file to file
//! ```

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::{SortOptions, concat};
use arrow::row::{RowConverter, SortField};
use futures::{StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};

use crate::array::Variable;
use crate::array::members::concatenate;
use crate::catalog::guard::Access;
use crate::catalog::location::SPECIAL;
use crate::catalog::tables::decode_options;
use crate::catalog::{Catalog, Opened};
use crate::error::{Error, Result, Within};
use crate::query::grid::{AxisOrder, axis_order};
use crate::query::show;
use crate::read::{self, Buffers};

/// Files that are opened at the same time.
const OPENED: usize = 16;

const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Which files a location means that has `*`, `?` or `[…]` in it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The location.
    pattern: String,
    /// What stands before the first part with such a character, with the slash behind it.
    base: String,
    /// The other parts.
    parts: Vec<String>,
    /// The dimension along which files are put together, if somebody says so.
    along: Option<String>,
}

/// How files were put together.
#[derive(Clone, Debug)]
pub(super) struct Together {
    /// Which files.
    pub(super) files: Files,
    /// Along which dimension.
    pub(super) dimension: String,
    /// Its coordinates; `None` where the index is the coordinate.
    pub(super) values: Option<ArrayRef>,
}

/// A file with the coordinates of its dimensions.
struct Member {
    opened: Arc<Opened>,
    /// For each dimension of the root group, its name, its length, and its coordinate vector if it has one.
    dimensions: Vec<(String, u64, Option<ArrayRef>)>,
}

impl Files {
    /// The files that `location` means; `None` where it means one dataset.
    pub(super) fn of(location: &str, along: Option<&str>) -> Option<Self> {
        let path = match location.split_once("://") {
            None | Some(("file", _)) => location,
            Some(("s3" | "s3a", path)) => path,
            // Nobody lists what there is.
            Some(_) => return None,
        };
        if !path.contains(SPECIAL) || Path::new(location).exists() {
            return None;
        }
        let special = location.find(SPECIAL)?;
        let start = location
            .get(..special)?
            .rfind('/')
            .map_or(0, |slash| slash + 1);
        let (base, rest) = location.split_at_checked(start)?;
        Some(Self {
            pattern: location.to_owned(),
            base: base.to_owned(),
            parts: rest.split('/').map(str::to_owned).collect(),
            along: along.map(str::to_owned),
        })
    }

    /// The locations of the files, sorted.
    async fn locations(&self, catalog: &Catalog) -> Result<Vec<String>> {
        let store = catalog.store(if self.base.is_empty() {
            "."
        } else {
            &self.base
        })?;
        let mut found = vec![String::new()];
        for (at, part) in self.parts.iter().enumerate() {
            let is_last = at + 1 == self.parts.len();
            let mut next = Vec::new();
            if part == "**" && !is_last {
                while let Some(directory) = found.pop() {
                    let entries = store.list(&directory).await?.into_iter();
                    let below = entries.filter(|entry| entry.is_directory);
                    found.extend(below.map(|entry| entry.key));
                    next.push(directory);
                }
            } else {
                let pattern = Pattern::new(part).map_err(|error| {
                    Error::Invalid(format!("{} is not a pattern: {error}", self.pattern))
                })?;
                for directory in found {
                    let entries = store.list(&directory).await?.into_iter();
                    let matching = entries.filter(|entry| {
                        let name = entry.key.rsplit('/').next().unwrap_or(&entry.key);
                        pattern.matches_with(name, MATCHING) && (is_last || entry.is_directory)
                    });
                    next.extend(matching.map(|entry| entry.key));
                }
            }
            found = next;
        }
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(Error::NotFound(format!("no file matches {}", self.pattern)));
        }
        Ok(found
            .iter()
            .map(|key| format!("{}{key}", self.base))
            .collect())
    }

    /// Opens the files as one dataset.
    ///
    /// # Errors
    /// `NotFound` when no file matches, `Unsupported` when one is no dataset, `Invalid` when they cannot be put together.
    pub(super) async fn open(&self, catalog: &Catalog, format: Option<&str>) -> Result<Opened> {
        let locations = self.locations(catalog).await?;
        let member = |location: String| async move {
            // A link may lead somewhere else than the pattern says.
            let location = catalog.place(&location, Access::Read)?;
            let opened = catalog
                .open_store(catalog.store(&location)?, format)
                .await?;
            Member::new(opened, catalog).await
        };
        let members = stream::iter(locations).map(member).buffered(OPENED);
        let mut members: Vec<Member> = members.try_collect().await?;
        let dimension = self.dimension(&members)?;
        // Files without an index tell nothing but what the others tell, too.
        if members
            .iter()
            .any(|member| member.length(&dimension) != Some(0))
        {
            members.retain(|member| member.length(&dimension) != Some(0));
        }
        check_others(&members, &dimension)?;
        let members = ordered(members, &dimension)?;
        let datasets: Vec<_> = members
            .iter()
            .map(|member| &member.opened.dataset)
            .collect();
        let dataset = concatenate(&self.pattern, &datasets, &dimension)?;
        let format = members.first().map(|member| member.opened.format);
        let vectors = members.iter().map(|member| member.coordinate(&dimension));
        let values = vectors.collect::<Option<Vec<&ArrayRef>>>().map(|vectors| {
            let vectors: Vec<&dyn Array> = vectors.into_iter().map(AsRef::as_ref).collect();
            concat(&vectors).map_err(|error| Error::Invalid(format!("{dimension}: {error}")))
        });
        Ok(Opened {
            together: Some(Together {
                files: self.clone(),
                values: values.transpose()?,
                dimension,
            }),
            store: catalog.store(&self.pattern)?,
            format: format.ok_or_else(|| Error::NotFound(self.pattern.clone()))?,
            dataset,
            reference: None,
            target: None,
            members: members.into_iter().map(|member| member.opened).collect(),
            tables: std::sync::OnceLock::new(),
        })
    }

    /// The location of the file that is called `name` where the pattern leaves its name open.
    ///
    /// # Errors
    /// `Unsupported` when the pattern leaves open more than that.
    pub(super) fn named(&self, name: &str) -> Result<String> {
        let has_one = |part: &str| part.matches('*').count() == 1 && !part.contains(['?', '[']);
        match self.parts.as_slice() {
            [part] if has_one(part) => Ok(format!("{}{}", self.base, part.replace('*', name))),
            _ => Err(Error::Unsupported(format!(
                "{}: this does not tell how a new file is to be called; with one * in the name of files it would",
                self.pattern
            ))),
        }
    }

    /// The dimension along which the files are put together.
    fn dimension(&self, members: &[Member]) -> Result<String> {
        let Some((first, others)) = members.split_first() else {
            return Err(Error::NotFound(format!("no file matches {}", self.pattern)));
        };
        let all = &first.opened.dataset.root.dimensions;
        let names = || {
            let names: Vec<&str> = all
                .iter()
                .map(|dimension| dimension.name.as_str())
                .collect();
            names.join(", ")
        };
        if let Some(name) = &self.along {
            if all.iter().any(|dimension| dimension.name == *name) {
                return Ok(name.clone());
            }
            return Err(Error::NotFound(format!(
                "{}: {} has no dimension {name}; it has {}",
                self.pattern,
                first.location(),
                names()
            )));
        }
        let differing: Vec<&str> = first
            .dimensions
            .iter()
            .filter(|own| others.iter().any(|other| !other.is_alike(own)))
            .map(|(name, _, _)| name.as_str())
            .collect();
        let usual = || {
            let mut unlimited = all.iter().filter(|dimension| dimension.unlimited);
            let time = || all.iter().find(|dimension| dimension.name == "time");
            match (unlimited.next(), unlimited.next()) {
                (Some(only), None) => Some(only),
                _ => time(),
            }
        };
        let is_counted = |name: &str| first.coordinate(name).is_none();
        let refused = |reason: String| {
            Err(Error::Invalid(format!(
                "{}: {reason}; #along=NAME behind the location tells the dimension",
                self.pattern
            )))
        };
        match (differing.as_slice(), usual()) {
            ([only], _) => Ok((*only).to_owned()),
            ([], Some(usual)) if others.is_empty() || is_counted(&usual.name) => {
                Ok(usual.name.clone())
            }
            ([], _) if others.is_empty() => match all.first() {
                Some(dimension) => Ok(dimension.name.clone()),
                None => refused("there is no dimension".to_owned()),
            },
            ([], _) => refused(format!(
                "{} and {} have the same coordinates of {}",
                first.location(),
                others.first().map_or("", Member::location),
                names()
            )),
            (several, _) => refused(format!("the files differ along {}", several.join(" and "))),
        }
    }
}

impl Member {
    async fn new(opened: Arc<Opened>, catalog: &Catalog) -> Result<Self> {
        let decode = decode_options(&opened, &catalog.options());
        let mut dimensions = Vec::new();
        let mut buffers = Buffers::default();
        for dimension in &opened.dataset.root.dimensions {
            let mut variables = opened.dataset.root.variables.iter();
            let is_coordinate = |variable: &&Arc<Variable>| {
                variable.name == dimension.name && variable.dimensions == [dimension.name.as_str()]
            };
            let coordinate = match variables.find(is_coordinate) {
                Some(variable) => {
                    let read = read::values(&opened.store, variable, &decode, &mut buffers).await;
                    let read = read.within(|| &variable.path);
                    Some(read.within(|| opened.store.location())?)
                }
                None => None,
            };
            dimensions.push((dimension.name.clone(), dimension.length, coordinate));
        }
        Ok(Self { opened, dimensions })
    }

    fn location(&self) -> &str {
        self.opened.store.location()
    }

    fn length(&self, name: &str) -> Option<u64> {
        let mut dimensions = self.dimensions.iter();
        let dimension = dimensions.find(|(own, _, _)| own == name)?;
        Some(dimension.1)
    }

    fn coordinate(&self, name: &str) -> Option<&ArrayRef> {
        let mut dimensions = self.dimensions.iter();
        let dimension = dimensions.find(|(own, _, _)| own == name)?;
        dimension.2.as_ref()
    }

    /// Whether a dimension of another file is the same here.
    fn is_alike(&self, (name, length, coordinate): &(String, u64, Option<ArrayRef>)) -> bool {
        self.length(name) == Some(*length) && self.coordinate(name) == coordinate.as_ref()
    }
}

/// Checks that all dimensions but one are the same in all files.
fn check_others(members: &[Member], dimension: &str) -> Result<()> {
    let Some((first, others)) = members.split_first() else {
        return Ok(());
    };
    for own in first.dimensions.iter().filter(|own| own.0 != dimension) {
        let Some(other) = others.iter().find(|other| !other.is_alike(own)) else {
            continue;
        };
        let (name, length, values) = own;
        let here = other.length(name);
        let difference = match (values, other.coordinate(name)) {
            _ if here != Some(*length) => format!(
                "has {} indices instead of {length}",
                here.map_or_else(|| "no".to_owned(), |length| length.to_string())
            ),
            (Some(values), Some(others)) => {
                let same = |at: &usize| values.slice(*at, 1) != others.slice(*at, 1);
                let at = (0..values.len()).find(same).unwrap_or(0);
                format!(
                    "is {} at index {at} instead of {}",
                    show(others, at),
                    show(values, at)
                )
            }
            _ => "has a coordinate in one of them only".to_owned(),
        };
        return Err(Error::Invalid(format!(
            "{} cannot be put together with {}: {name} {difference}",
            other.location(),
            first.location()
        )));
    }
    Ok(())
}

/// The files in the order of their coordinates; by name, where these are in no order.
fn ordered(mut members: Vec<Member>, dimension: &str) -> Result<Vec<Member>> {
    let vectors = members.iter().map(|member| member.coordinate(dimension));
    let Some(vectors) = vectors.collect::<Option<Vec<&ArrayRef>>>() else {
        if let Some(without) = members.iter().find(|m| m.coordinate(dimension).is_none())
            && let Some(with) = members.iter().find(|m| m.coordinate(dimension).is_some())
        {
            return Err(Error::Invalid(format!(
                "{} has no coordinate of {dimension}, but {} has one",
                without.location(),
                with.location()
            )));
        }
        return Ok(members);
    };
    if let Some(at) = vectors
        .iter()
        .position(|other| other.data_type() != vectors[0].data_type())
    {
        return Err(Error::Invalid(format!(
            "{dimension} is {} in {}, and {} in {}",
            vectors[at].data_type(),
            members[at].location(),
            vectors[0].data_type(),
            members[0].location()
        )));
    }
    let long = |values: &&&ArrayRef| values.len() > 1;
    let mut orders = vectors.iter().filter(long).map(|values| axis_order(values));
    let order = orders.next().unwrap_or(Some(AxisOrder {
        descending: false,
        strict: true,
    }));
    let descending = |order: &Option<AxisOrder>| order.map(|order| order.descending);
    let direction = descending(&order);
    let is_ordered = orders.all(|other| descending(&other) == direction)
        && vectors.iter().all(|values| values.null_count() == 0);
    let Some(descending) = direction.filter(|_| is_ordered) else {
        check_distinct(&members, &vectors, dimension)?;
        return Ok(members);
    };
    let order = SortOptions {
        descending,
        nulls_first: true,
    };
    let first = |member: &Member| {
        member
            .coordinate(dimension)
            .map(|values| values.slice(0, 1))
    };
    let mut keyed: Vec<(ArrayRef, Member)> = Vec::with_capacity(members.len());
    for member in members.drain(..) {
        if let Some(first) = first(&member) {
            keyed.push((first, member));
        }
    }
    let compare = |a: &ArrayRef, b: &ArrayRef| match make_comparator(a, b, order) {
        Ok(_) if a.is_empty() || b.is_empty() => a.len().cmp(&b.len()),
        Ok(compare) => compare(0, 0),
        Err(_) => Ordering::Equal,
    };
    keyed.sort_by(|(a, _), (b, _)| compare(a, b));
    for pair in keyed.windows(2) {
        let [(_, before), (first, behind)] = pair else {
            continue;
        };
        let Some(values) = before
            .coordinate(dimension)
            .filter(|values| !values.is_empty())
        else {
            continue;
        };
        let last = values.slice(values.len() - 1, 1);
        if compare(&last, first) != Ordering::Less {
            return Err(Error::Invalid(format!(
                "{} and {} overlap along {dimension}: one goes to {}, the other begins with {}",
                before.location(),
                behind.location(),
                show(&last, 0),
                show(first, 0)
            )));
        }
    }
    Ok(keyed.into_iter().map(|(_, member)| member).collect())
}

/// Checks that no value of a coordinate is in two files.
fn check_distinct(members: &[Member], vectors: &[&ArrayRef], dimension: &str) -> Result<()> {
    let Some(first) = vectors.first() else {
        return Ok(());
    };
    let invalid = |error: arrow::error::ArrowError| {
        Error::Invalid(format!("values of {dimension} cannot be compared: {error}"))
    };
    let fields = vec![SortField::new(first.data_type().clone())];
    let converter = RowConverter::new(fields).map_err(invalid)?;
    let mut seen = HashSet::new();
    for (member, values) in members.iter().zip(vectors) {
        let rows = converter.convert_columns(&[Arc::clone(values)]);
        let rows = rows.map_err(invalid)?;
        let mut own = HashSet::new();
        for (at, row) in rows
            .iter()
            .enumerate()
            .filter(|(at, _)| values.is_valid(*at))
        {
            if seen.contains(row.data()) {
                return Err(Error::Invalid(format!(
                    "{dimension} {} is in {} and in a file before it",
                    show(values, at),
                    member.location()
                )));
            }
            own.insert(row.data().to_vec());
        }
        seen.extend(own);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_in_locations() {
        let of = |location: &str| {
            let files = Files::of(location, None)?;
            Some((files.base, files.parts.join("|")))
        };
        assert_eq!(of("a/b.nc"), None);
        assert_eq!(of("http://host/a?b=*"), None);
        let some = |base: &str, parts: &str| Some((base.to_owned(), parts.to_owned()));
        assert_eq!(of("tas_*.nc"), some("", "tas_*.nc"));
        assert_eq!(of("/a/b/**/c?.nc"), some("/a/b/", "**|c?.nc"));
        assert_eq!(of("s3://b/a/[xy]/t.nc"), some("s3://b/a/", "[xy]|t.nc"));
    }
}
