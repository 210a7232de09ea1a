//! Roles: what the variables of a dataset are to each other by the CF conventions.

use std::collections::HashMap;

use crate::array::{AttributeValue, Group, Variable};

/// What a variable is to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The coordinate variable of a dimension: one-dimensional, and named like its dimension.
    Coordinate,
    /// An auxiliary or scalar coordinate: named by a `coordinates` attribute.
    Auxiliary,
    /// The bounds of the cells of a coordinate.
    Bounds {
        /// Path of the variable whose `bounds` or `climatology` attribute names it.
        of: String,
    },
    /// Everything else, cell measures and grid mappings too.
    Data,
}

/// An axis of space and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Longitude, or eastward.
    X,
    /// Latitude, or northward.
    Y,
    /// Height, depth or pressure.
    Z,
    /// Time.
    T,
}

impl Axis {
    /// Its letter in the `axis` attribute.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::X => 'X',
            Self::Y => 'Y',
            Self::Z => 'Z',
            Self::T => 'T',
        }
    }
}

/// The role of every variable below `root`, by path.
///
/// Names in attributes are looked for in the group of the attribute and then outwards; a name with slashes is a path
/// from that group, or from the root. Join characters first ([`crate::cf::join_chars`]): a text coordinate is
/// one-dimensional only then.
#[must_use]
pub fn roles(root: &Group) -> HashMap<String, Role> {
    let groups = root.walk();
    let mut roles: HashMap<String, Role> = HashMap::new();
    let known: HashMap<&str, &Variable> = groups
        .iter()
        .flat_map(|group| group.variables.iter())
        .map(|variable| (variable.path.as_str(), variable.as_ref()))
        .collect();
    let resolve = |group: &Group, name: &str| resolve(&known, &group.path, name);

    for group in &groups {
        for variable in &group.variables {
            let role = if variable.dimensions.as_slice() == [variable.name.as_str()] {
                Role::Coordinate
            } else {
                Role::Data
            };
            roles.insert(variable.path.clone(), role);
        }
    }
    for group in &groups {
        let attributes = group.variables.iter().map(|variable| &variable.attributes);
        // xarray writes coordinates that belong to no variable into an attribute of the group.
        for attributes in attributes.chain([&group.attributes]) {
            for name in words(attributes.get("coordinates")) {
                if let Some(role) = resolve(group, name).and_then(|path| roles.get_mut(path))
                    && *role == Role::Data
                {
                    *role = Role::Auxiliary;
                }
            }
        }
    }
    for group in &groups {
        for parent in &group.variables {
            for attribute in ["bounds", "climatology"] {
                for name in words(parent.attributes.get(attribute)) {
                    if let Some(path) = resolve(group, name).filter(|path| *path != parent.path) {
                        let of = parent.path.clone();
                        roles.insert(path.to_owned(), Role::Bounds { of });
                    }
                }
            }
        }
    }
    roles
}

/// The bounds of a coordinate with the attributes that they inherit from it: `units`, `calendar` and the like are
/// those of the coordinate where the bounds have none of their own.
#[must_use]
pub fn inherit(bounds: &Variable, coordinate: &Variable) -> Variable {
    let mut bounds = bounds.clone();
    for name in ["units", "calendar", "standard_name", "axis", "positive"] {
        if let (None, Some(value)) = (bounds.attributes.get(name), coordinate.attributes.get(name))
        {
            let value = value.clone();
            bounds.attributes.0.push((name.to_owned(), value));
        }
    }
    bounds
}

/// The axis that a coordinate runs along, as far as its attributes tell.
#[must_use]
pub fn axis(variable: &Variable) -> Option<Axis> {
    let text = |name| variable.attributes.text(name).unwrap_or_default().trim();
    match text("axis").to_ascii_uppercase().as_str() {
        "X" => return Some(Axis::X),
        "Y" => return Some(Axis::Y),
        "Z" => return Some(Axis::Z),
        "T" => return Some(Axis::T),
        _ => {}
    }
    match text("standard_name") {
        "longitude" | "grid_longitude" | "projection_x_coordinate" => return Some(Axis::X),
        "latitude" | "grid_latitude" | "projection_y_coordinate" => return Some(Axis::Y),
        "time" | "forecast_reference_time" => return Some(Axis::T),
        "air_pressure"
        | "height"
        | "depth"
        | "altitude"
        | "model_level_number"
        | "atmosphere_hybrid_sigma_pressure_coordinate"
        | "ocean_sigma_coordinate"
        | "ocean_s_coordinate" => return Some(Axis::Z),
        _ => {}
    }
    if ["up", "down"].contains(&text("positive").to_ascii_lowercase().as_str()) {
        return Some(Axis::Z);
    }
    let units = text("units");
    match units {
        "degrees_east" | "degree_east" | "degree_E" | "degrees_E" | "degreeE" | "degreesE" => {
            Some(Axis::X)
        }
        "degrees_north" | "degree_north" | "degree_N" | "degrees_N" | "degreeN" | "degreesN" => {
            Some(Axis::Y)
        }
        "bar" | "millibar" | "mbar" | "decibar" | "dbar" | "atm" | "hPa" | "Pa" | "level"
        | "layer" | "sigma_level"
            if variable.dimensions.as_slice() == [variable.name.as_str()] =>
        {
            Some(Axis::Z)
        }
        _ if crate::cf::time::TimeUnits::is_time(units) => Some(Axis::T),
        _ => None,
    }
}

fn words(value: Option<&AttributeValue>) -> Vec<&str> {
    match value {
        Some(AttributeValue::Text(text)) => text.split_whitespace().collect(),
        Some(AttributeValue::Texts(texts)) => texts
            .iter()
            .flat_map(|text| text.split_whitespace())
            .collect(),
        Some(
            AttributeValue::Integers { .. }
            | AttributeValue::Floats { .. }
            | AttributeValue::Json(_),
        )
        | None => Vec::new(),
    }
}

/// The path of the variable that `name` means within the group at `group`.
fn resolve<'a>(known: &HashMap<&'a str, &Variable>, group: &str, name: &str) -> Option<&'a str> {
    let find = |path: &str| known.get_key_value(path).map(|(path, _)| *path);
    if let Some(path) = name.strip_prefix('/') {
        return find(path);
    }
    let mut group = group;
    let mut name = name;
    while let Some(rest) = name.strip_prefix("../") {
        group = parent(group)?;
        name = rest;
    }
    loop {
        if group.is_empty() {
            return find(name);
        }
        if let Some(found) = find(&format!("{group}/{name}")) {
            return Some(found);
        }
        group = parent(group)?;
    }
}

/// The path of the enclosing group; `None` for the root.
fn parent(group: &str) -> Option<&str> {
    match group.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None if group.is_empty() => None,
        None => Some(""),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex, ElementOrder};
    use crate::array::dtype::ElementType;
    use crate::array::{Attributes, Layout};
    use crate::codec::CodecPipeline;
    use crate::error::Result;

    #[derive(Debug)]
    struct NoChunks;

    #[async_trait]
    impl ChunkIndex for NoChunks {
        async fn locate(&self, _: &[u64]) -> Result<Vec<ChunkAddress>> {
            Ok(Vec::new())
        }
    }

    fn variable(path: &str, dimensions: &[&str], attributes: &[(&str, &str)]) -> Variable {
        let shape = vec![4; dimensions.len()];
        Variable {
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            path: path.to_owned(),
            dimensions: dimensions.iter().map(|&name| name.to_owned()).collect(),
            attributes: Attributes(
                attributes
                    .iter()
                    .map(|&(key, value)| (key.to_owned(), AttributeValue::Text(value.to_owned())))
                    .collect(),
            ),
            layout: Arc::new(Layout {
                element: ElementType::Float32,
                grid: ChunkGrid::new(shape.clone(), shape).unwrap(),
                order: ElementOrder::C,
                pipeline: CodecPipeline::default(),
                fill: Vec::new(),
            }),
            index: Arc::new(NoChunks),
            members: None,
        }
    }

    fn group(path: &str, variables: Vec<Variable>, groups: Vec<Group>) -> Group {
        Group {
            path: path.to_owned(),
            variables: variables.into_iter().map(Arc::new).collect(),
            groups,
            ..Group::default()
        }
    }

    #[test]
    fn roles_follow_the_attributes_across_groups() {
        let root = group(
            "",
            vec![
                variable("time", &["time"], &[("bounds", "time_bnds")]),
                variable("time_bnds", &["time", "nv"], &[]),
                variable("lat", &["y", "x"], &[]),
                variable("height", &[], &[]),
                variable("crs", &[], &[]),
                variable(
                    "tas",
                    &["time", "y", "x"],
                    &[
                        ("coordinates", "lat height time nothing"),
                        ("grid_mapping", "crs"),
                    ],
                ),
            ],
            vec![group(
                "a",
                vec![
                    variable(
                        "a/lon",
                        &["y", "x"],
                        &[("bounds", "../time_bnds_a /a/lon_bnds")],
                    ),
                    variable("a/lon_bnds", &["y", "x", "nv"], &[]),
                    variable("a/pr", &["y", "x"], &[("coordinates", "lon lat")]),
                ],
                Vec::new(),
            )],
        );
        let roles = roles(&root);
        let bounds = |of: &str| Role::Bounds { of: of.to_owned() };
        for (path, role) in [
            ("time", Role::Coordinate),
            ("time_bnds", bounds("time")),
            ("lat", Role::Auxiliary),
            ("height", Role::Auxiliary),
            ("crs", Role::Data),
            ("tas", Role::Data),
            ("a/lon", Role::Auxiliary),
            ("a/lon_bnds", bounds("a/lon")),
            ("a/pr", Role::Data),
        ] {
            assert_eq!(roles.get(path), Some(&role), "{path}");
        }
    }

    #[test]
    fn axes_are_told_by_attributes() {
        for (attributes, expected) in [
            (&[("axis", "x")][..], Some(Axis::X)),
            (&[("standard_name", "latitude")], Some(Axis::Y)),
            (&[("units", "degrees_east")], Some(Axis::X)),
            (&[("units", "m"), ("positive", "Down")], Some(Axis::Z)),
            (&[("units", "days since 2000-01-01")], Some(Axis::T)),
            (&[("units", "hPa")], Some(Axis::Z)),
            (&[("units", "K")], None),
        ] {
            assert_eq!(
                axis(&variable("v", &["v"], attributes)),
                expected,
                "{attributes:?}"
            );
        }
    }

    #[test]
    fn bounds_inherit_units() {
        let time = variable(
            "time",
            &["time"],
            &[("units", "days since 2000-01-01"), ("calendar", "noleap")],
        );
        let bounds = inherit(
            &variable("b", &["time", "nv"], &[("calendar", "julian")]),
            &time,
        );
        assert_eq!(
            bounds.attributes.text("units"),
            Some("days since 2000-01-01")
        );
        assert_eq!(bounds.attributes.text("calendar"), Some("julian"));
    }
}
