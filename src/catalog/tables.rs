//! Which tables a dataset has, and which variables are columns of each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::array::{Group, Variable};
use crate::catalog::Opened;
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::cf::roles::{self, Role};
use crate::error::{Error, Result, Within};
use crate::query::HyperslabOptions;
use crate::query::grid::{Grid, GridParts, GridVariable};
use crate::query::members::Members;

/// A table of a dataset, before its coordinates are read.
#[derive(Clone, Debug)]
pub struct TableParts {
    /// Name within the dataset: `tas`, `time_lat_lon`, `group/tas`.
    pub name: String,
    /// Name and length of each dimension, slowest first.
    pub dimensions: Vec<(String, u64)>,
    /// The coordinate variable of each dimension, where there is one.
    coordinates: Vec<Option<Arc<Variable>>>,
    /// Auxiliary coordinates, then data variables.
    variables: Vec<Arc<Variable>>,
    /// Whether it stands for a dimension tuple (and not for one variable of several).
    pub is_tuple: bool,
}

impl TableParts {
    /// Path of the group that it is in; empty for the root.
    #[must_use]
    pub fn group(&self) -> &str {
        self.name.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.dimensions
            .iter()
            .fold(1u64, |rows, (_, length)| rows.saturating_mul(*length))
    }

    /// Names of the columns that are variables.
    pub fn variable_names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.name.as_str())
    }

    /// The data variable that the table is named by, or its first one.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Arc<Variable>> {
        self.variables
            .iter()
            .chain(self.coordinates.iter().flatten())
            .find(|variable| variable.name == name)
    }
}

/// All tables of a dataset: those of dimension tuples first, then those of single variables; each group after the one
/// that encloses it.
#[must_use]
pub fn tables(opened: &Opened) -> &[TableParts] {
    opened.tables.get_or_init(|| find_tables(opened))
}

fn find_tables(opened: &Opened) -> Vec<TableParts> {
    let roles = roles::roles(&opened.dataset.root);
    let mut scopes: Vec<Scope> = Vec::new();
    collect_scopes(&roles, &opened.dataset.root, &HashMap::new(), &mut scopes);
    let mut tables: Vec<TableParts> = Vec::new();
    for scope in &scopes {
        let mut of_group = scope.tuple_tables();
        for table in scope.variable_tables() {
            if !of_group.iter().any(|other| other.name == table.name) {
                of_group.push(table);
            }
        }
        tables.extend(of_group);
    }
    tables
}

/// The table that `FROM 'file'` means: of the dimension tuples of the root group (of all groups, if the root has
/// none), the one with the most cells.
///
/// # Errors
/// `Unsupported` when nothing of the dataset can be read.
pub fn main_table(opened: &Opened) -> Result<TableParts> {
    let all = tables(opened);
    largest(all.iter().filter(|table| !table.name.contains('/')))
        .or_else(|| largest(all.iter()))
        .ok_or_else(|| nothing_readable(opened))
}

/// The table called `name`: a table of [`tables`], or the main table of the group called so.
///
/// # Errors
/// `Unsupported` with the reason when the variable cannot be read, `NotFound` naming the tables when there is none.
pub fn table(opened: &Opened, name: &str) -> Result<TableParts> {
    let all = tables(opened);
    let name = name.trim_start_matches('/');
    if let Some(table) = all.iter().find(|table| table.name == name) {
        return Ok(table.clone());
    }
    let prefix = format!("{name}/");
    if let Some(table) = largest(all.iter().filter(|table| {
        table
            .name
            .strip_prefix(&prefix)
            .is_some_and(|rest| !rest.contains('/'))
    })) {
        return Ok(table);
    }
    if let Some(reason) = unreadable(opened, name) {
        return Err(Error::Unsupported(format!(
            "{}: {name} cannot be read: {reason}",
            opened.store.location()
        )));
    }
    if all.is_empty() {
        return Err(nothing_readable(opened));
    }
    let names: Vec<&str> = all
        .iter()
        .take(40)
        .map(|table| table.name.as_str())
        .collect();
    let more = if all.len() > names.len() { ", …" } else { "" };
    Err(Error::NotFound(format!(
        "{} has no table or variable '{name}'; it has {}{more}",
        opened.store.location(),
        names.join(", ")
    )))
}

/// Why the array called `path` cannot be read, if that is so.
#[must_use]
pub fn unreadable(opened: &Opened, path: &str) -> Option<String> {
    opened.dataset.root.walk().into_iter().find_map(|group| {
        group
            .unreadable
            .iter()
            .find(|array| join(&group.path, &array.name) == path)
            .map(|array| array.reason.clone())
    })
}

/// Reads the coordinates of a table and builds its grid.
///
/// # Errors
/// When a coordinate cannot be read or decoded.
pub async fn grid(opened: &Opened, table: &TableParts, options: &HyperslabOptions) -> Result<Grid> {
    let decoded = |variable: &Arc<Variable>| decoded(opened, variable, options);
    let coordinates = table
        .coordinates
        .iter()
        .map(|coordinate| coordinate.as_ref().map(decoded).transpose())
        .collect::<Result<Vec<_>>>()
        .map_err(|error| match error {
            Error::Invalid(text) => Error::Invalid(text + STORED_VALUES),
            Error::Unsupported(text) => Error::Unsupported(text + STORED_VALUES),
            error => error,
        })
        .within(|| opened.store.location())?;
    // A column that cannot be decoded is asked for by name, or not at all.
    let alone = !table.is_tuple;
    let mut variables = Vec::new();
    for variable in &table.variables {
        match decoded(variable) {
            Ok(variable) => variables.push(variable),
            Err(error) if alone && variable.path == table.name => {
                return Err(error.within(opened.store.location()));
            }
            Err(_) => {}
        }
    }
    let parts = GridParts {
        name: table.name.clone(),
        dimensions: table.dimensions.clone(),
        coordinates,
        variables,
        index_columns: options.index_columns,
    };
    let store = opened
        .members
        .first()
        .map_or(&opened.store, |first| &first.store);
    Grid::open(store, parts)
        .await
        .within(|| opened.store.location())
}

/// A variable with its decoding, or those of the files that it is continued in.
fn decoded(
    opened: &Opened,
    variable: &Arc<Variable>,
    options: &HyperslabOptions,
) -> Result<GridVariable> {
    let Some(parts) = &variable.members else {
        return Ok(GridVariable {
            decoding: Arc::new(Decoding::new(variable, &decode_options(opened, options))?),
            variable: Arc::clone(variable),
            store: opened.store.clone(),
            members: None,
        });
    };
    let mut sources = Vec::with_capacity(parts.parts.len());
    for part in &parts.parts {
        let file = opened.members.get(part.dataset).map_or(opened, Arc::as_ref);
        let decoding = Decoding::new(&part.variable, &decode_options(file, options));
        let decoding = decoding.within(|| file.store.location())?;
        sources.push((Arc::new(decoding), file.store.clone()));
    }
    let invalid = || Error::Invalid(format!("{} has no part", variable.path));
    let (first, _) = sources.first().ok_or_else(invalid)?;
    if let ([part], [(decoding, store)]) = (parts.parts.as_slice(), sources.as_slice()) {
        return Ok(GridVariable {
            variable: Arc::clone(&part.variable),
            decoding: Arc::clone(decoding),
            store: store.clone(),
            members: None,
        });
    }
    let decoding = Arc::clone(first);
    let members = Members::new(Arc::clone(parts), sources);
    let members = members.within(|| format!("variable {}", variable.path))?;
    Ok(GridVariable {
        variable: Arc::clone(variable),
        decoding,
        store: opened.store.clone(),
        members: Some(Arc::new(members)),
    })
}

/// What a person can do about attributes that cannot be decoded.
const STORED_VALUES: &str = "; SET hyperslab.decode = false reads the stored values";

pub(crate) fn decode_options(opened: &Opened, options: &HyperslabOptions) -> DecodeOptions {
    DecodeOptions {
        decode: options.decode,
        nan_as_null: options.nan_as_null,
        default_fill: opened.dataset.has_netcdf_fills(),
    }
}

/// Why `column` is not a column of `table`, if the dataset knows it: in which table it is, or why it cannot be read.
#[must_use]
pub fn explain_missing(
    opened: &Opened,
    table: &str,
    column: &str,
    options: &HyperslabOptions,
) -> Option<String> {
    let location = opened.store.location();
    let undecodable = tables(opened)
        .iter()
        .find(|other| other.name == table)
        .and_then(|table| table.variable(column))
        .and_then(|variable| decoded(opened, variable, options).err());
    if let Some(error) = undecodable {
        return Some(format!("{location}: {error}{STORED_VALUES}"));
    }
    let group = table.rsplit_once('/').map_or("", |(group, _)| group);
    if let Some(reason) = unreadable(opened, &join(group, column)) {
        return Some(format!("{location}: {column} cannot be read: {reason}"));
    }
    let all = tables(opened);
    let is_in = |table: &&TableParts| {
        table.variable_names().any(|name| name == column)
            || table.dimensions.iter().any(|(name, _)| name == column)
    };
    if let Some(other) = all.iter().filter(|table| table.is_tuple).find(is_in) {
        return Some(format!(
            "{location}: column {column} is not in table {table}; it is in table \"{}\": \
             SELECT {column} FROM \"{location}\".\"{}\"",
            other.name, other.name
        ));
    }
    let alike = all
        .iter()
        .flat_map(|table| {
            table
                .variable_names()
                .chain(table.dimensions.iter().map(|(name, _)| name.as_str()))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .find(|name| name.eq_ignore_ascii_case(column));
    alike.map(|name| {
        format!(
            "{location}: there is no column {column}, but \"{name}\": names are case-sensitive, write it in double quotes"
        )
    })
}

/// The tuple with the most cells. A dimension of length 0 counts as 1, and of equals the tuple of more dimensions is
/// larger, so that a dataset without rows yet has the main table that it will have with rows.
fn largest<'a>(tables: impl Iterator<Item = &'a TableParts>) -> Option<TableParts> {
    let size = |table: &TableParts| {
        let cells = table.dimensions.iter().fold(1u64, |cells, (_, length)| {
            cells.saturating_mul((*length).max(1))
        });
        (cells, table.dimensions.len())
    };
    let mut largest: Option<&TableParts> = None;
    for table in tables.filter(|table| table.is_tuple) {
        // The first of equals stays.
        if largest.is_none_or(|largest| size(table) > size(largest)) {
            largest = Some(table);
        }
    }
    largest.cloned()
}

fn nothing_readable(opened: &Opened) -> Error {
    let reasons: Vec<String> = opened
        .dataset
        .root
        .walk()
        .into_iter()
        .flat_map(|group| {
            group
                .unreadable
                .iter()
                .map(|array| format!("{}: {}", join(&group.path, &array.name), array.reason))
        })
        .take(5)
        .collect();
    let why = if reasons.is_empty() {
        "it has no arrays".to_owned()
    } else {
        reasons.join("; ")
    };
    Error::Unsupported(format!(
        "{} has no variable that can be read: {why}",
        opened.store.location()
    ))
}

/// Name and length of each dimension, slowest first.
type Dimensions = Vec<(String, u64)>;

/// A group with what is visible in it.
struct Scope<'a> {
    group: &'a Group,
    /// Variables of the group with their roles.
    own: Vec<(Arc<Variable>, Role)>,
    /// The roles of all variables of the dataset, by path.
    roles: &'a HashMap<String, Role>,
    /// Coordinate variables of this and the enclosing groups, by name; inner ones hide outer ones.
    coordinates: HashMap<String, Arc<Variable>>,
}

fn collect_scopes<'a>(
    roles: &'a HashMap<String, Role>,
    group: &'a Group,
    enclosing: &HashMap<String, Arc<Variable>>,
    scopes: &mut Vec<Scope<'a>>,
) {
    let own = with_roles(roles, group);
    let mut coordinates = enclosing.clone();
    for (variable, role) in &own {
        if *role == Role::Coordinate {
            coordinates.insert(variable.name.clone(), Arc::clone(variable));
        }
    }
    scopes.push(Scope {
        group,
        own,
        roles,
        coordinates: coordinates.clone(),
    });
    for child in &group.groups {
        collect_scopes(roles, child, &coordinates, scopes);
    }
}

/// The variables of a group with their roles.
pub(crate) fn with_roles(
    roles: &HashMap<String, Role>,
    group: &Group,
) -> Vec<(Arc<Variable>, Role)> {
    group
        .variables
        .iter()
        .map(|variable| {
            let role = roles.get(&variable.path).cloned().unwrap_or(Role::Data);
            (Arc::clone(variable), role)
        })
        .collect()
}

impl Scope<'_> {
    fn tuple_tables(&self) -> Vec<TableParts> {
        let mut sources = self.with_role(is_data);
        if sources.is_empty() {
            // Coordinates alone are a table too.
            sources = self.with_role(|role| !is_bounds(role));
        }
        let mut tuples: Vec<(Dimensions, Vec<&Arc<Variable>>)> = Vec::new();
        for variable in sources.into_iter().chain(self.with_role(is_bounds)) {
            let dimensions = dimensions(variable);
            match tuples.iter_mut().find(|(tuple, _)| *tuple == dimensions) {
                Some((_, variables)) => variables.push(variable),
                None => tuples.push((dimensions, vec![variable])),
            }
        }
        let mut names: Vec<String> = Vec::new();
        tuples
            .into_iter()
            .map(|(dimensions, variables)| {
                let name = match variables.as_slice() {
                    [sole] => sole.name.clone(),
                    _ if dimensions.is_empty() => "scalar".to_owned(),
                    _ => {
                        let names: Vec<&str> =
                            dimensions.iter().map(|(name, _)| name.as_str()).collect();
                        names.join("_")
                    }
                };
                let name = self.unused(name, &dimensions, &names);
                names.push(name.clone());
                let bounds = variables
                    .iter()
                    .all(|variable| is_bounds(self.role(variable)));
                let columns = self.columns(&dimensions, if bounds { &variables } else { &[] });
                self.parts(&name, dimensions, columns, true)
            })
            .collect()
    }

    /// A name that neither another tuple nor a variable of other dimensions has.
    fn unused(&self, name: String, dimensions: &[(String, u64)], names: &[String]) -> String {
        let is_taken = |name: &String| {
            names.contains(name)
                || self.own.iter().any(|(variable, _)| {
                    variable.name == *name && self::dimensions(variable) != dimensions
                })
        };
        if !is_taken(&name) {
            return name;
        }
        let lengths: Vec<String> = dimensions.iter().map(|(_, n)| n.to_string()).collect();
        let mut longer = format!("{name}_{}", lengths.join("x"));
        while is_taken(&longer) {
            longer.push('_');
        }
        longer
    }

    fn variable_tables(&self) -> Vec<TableParts> {
        self.own
            .iter()
            .map(|(variable, role)| {
                let dimensions = dimensions(variable);
                let mut columns: Vec<Arc<Variable>> = Vec::new();
                if *role != Role::Coordinate {
                    columns = self
                        .with_role(is_auxiliary)
                        .into_iter()
                        .filter(|other| other.name != variable.name && fits(other, &dimensions))
                        .map(Arc::clone)
                        .collect();
                    columns.push(Arc::clone(variable));
                }
                self.parts(&variable.name, dimensions, columns, false)
            })
            .collect()
    }

    /// Auxiliary coordinates and data variables on some of the dimensions; `instead` replaces the data variables.
    fn columns(
        &self,
        dimensions: &[(String, u64)],
        instead: &[&Arc<Variable>],
    ) -> Vec<Arc<Variable>> {
        let coordinate = |variable: &Arc<Variable>| {
            *self.role(variable) == Role::Coordinate
                && dimensions.iter().any(|(name, _)| *name == variable.name)
        };
        let data = match instead {
            [] => self.with_role(is_data),
            instead => instead.to_vec(),
        };
        self.with_role(is_auxiliary)
            .into_iter()
            .chain(data)
            .filter(|variable| fits(variable, dimensions) && !coordinate(variable))
            .map(Arc::clone)
            .collect()
    }

    fn parts(
        &self,
        name: &str,
        dimensions: Dimensions,
        variables: Vec<Arc<Variable>>,
        is_tuple: bool,
    ) -> TableParts {
        let coordinates = dimensions
            .iter()
            .map(|(name, length)| {
                self.coordinates
                    .get(name)
                    .filter(|variable| variable.shape() == [*length])
                    .cloned()
            })
            .collect();
        TableParts {
            name: join(&self.group.path, name),
            dimensions,
            coordinates,
            variables,
            is_tuple,
        }
    }

    fn role(&self, variable: &Arc<Variable>) -> &Role {
        self.roles.get(&variable.path).unwrap_or(&Role::Data)
    }

    fn with_role(&self, has: impl Fn(&Role) -> bool) -> Vec<&Arc<Variable>> {
        self.own
            .iter()
            .filter(|(_, role)| has(role))
            .map(|(variable, _)| variable)
            .collect()
    }
}

fn is_data(role: &Role) -> bool {
    *role == Role::Data
}

fn is_auxiliary(role: &Role) -> bool {
    *role == Role::Auxiliary
}

fn is_bounds(role: &Role) -> bool {
    matches!(role, Role::Bounds { .. })
}

fn dimensions(variable: &Variable) -> Vec<(String, u64)> {
    variable
        .dimensions
        .iter()
        .cloned()
        .zip(variable.shape().iter().copied())
        .collect()
}

/// Whether the dimensions of a variable are some of `of`, each used once.
fn fits(variable: &Variable, of: &[(String, u64)]) -> bool {
    let mut left = of.to_vec();
    dimensions(variable).into_iter().all(|dimension| {
        match left.iter().position(|other| *other == dimension) {
            Some(at) => {
                left.remove(at);
                true
            }
            None => false,
        }
    })
}

fn join(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{group}/{name}")
    }
}
