//! What a cube has to hold: every version of it, in memory.

use serde_json::{Value, json};

use crate::insert::day;

/// Values of `tas` and `pr`; `None` is missing.
pub type Cell = (Option<f64>, Option<f64>);

/// Cells of a slice: 4 latitudes, 5 longitudes.
pub const CELLS: usize = 20;

/// One time, and what is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Days since the beginning of 2000, in a calendar without leap days.
    pub day: u32,
    pub cells: Vec<Cell>,
}

/// What a statement makes of a cube.
#[derive(Clone, Debug)]
pub struct Change {
    pub slices: Vec<Slice>,
    /// Whether cells that were there got other values.
    pub rewrites: bool,
    /// What the log calls it.
    pub operation: String,
}

/// A cube as it has been from the beginning on.
#[derive(Debug)]
pub struct Model {
    versions: Vec<Change>,
}

impl Model {
    /// The cube before any statement: six slices of the cells of [`crate::insert::expected`].
    pub fn new() -> Self {
        let cell = |k: u32| (Some(f64::from(k)), Some(f64::from(k) / 2.0));
        let slices = (0..6).map(|day| Slice {
            day,
            cells: (day * 20..day * 20 + 20).map(cell).collect(),
        });
        Self {
            versions: vec![Change {
                slices: slices.collect(),
                rewrites: false,
                operation: "found".to_owned(),
            }],
        }
    }

    /// What the cube holds now.
    pub fn now(&self) -> &[Slice] {
        &self.versions[self.versions.len() - 1].slices
    }

    /// How many versions have been made, with the one that was found.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    pub fn commit(&mut self, change: Change) {
        self.versions.push(change);
    }

    /// What a version held, if none of its cells has been changed or removed since.
    pub fn version(&self, number: usize) -> Option<&[Slice]> {
        let (version, later) = self.versions[number..].split_first()?;
        let spoils = |later: &Change| later.rewrites || later.slices.len() < version.slices.len();
        (!later.iter().any(spoils)).then_some(&version.slices)
    }

    /// The rows of the log: number, operation, lengths, whether the version can be read.
    pub fn log(&self) -> Vec<Value> {
        if self.versions.len() == 1 {
            return Vec::new();
        }
        let versions = self.versions.iter().enumerate();
        versions
            .map(|(number, change)| {
                let length = change.slices.len();
                let readable = self.version(number).is_some();
                json!([number, change.operation, length, readable])
            })
            .collect()
    }
}

/// The rows of slices in order: time, lat, lon, tas, pr, area.
pub fn rows_of(slices: &[Slice]) -> Vec<Value> {
    let rows = slices.iter().flat_map(|slice| {
        let cells = slice.cells.iter().enumerate();
        cells.map(|(at, (tas, pr))| {
            let (lat, lon, area) = place(at);
            json!([day(slice.day), lat, lon, tas, pr, area])
        })
    });
    rows.collect()
}

/// Latitude, longitude and area of a cell.
pub fn place(cell: usize) -> (f64, f64, f64) {
    let small = |n: usize| f64::from(u32::try_from(n).unwrap());
    (
        small(cell / 5) * 40.0 - 60.0,
        small(cell % 5) * 10.0,
        small(cell),
    )
}
