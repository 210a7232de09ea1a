//! Random grids: written as Zarr stores by hand, and the same rows as a table that is built cell by cell.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::datasource::MemTable;

/// A small deterministic generator (xorshift): the same cases in every run.
pub struct Random(u64);

impl Random {
    /// The generator of a case.
    pub fn new(seed: u64) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ seed.wrapping_mul(0x2545_F491_4F6C_DD1D))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end
    }

    pub fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Names of the dimensions.
pub const NAMES: [&str; 4] = ["w", "z", "y", "x"];

/// A grid: coordinates, two variables `a` and `b` on all dimensions, and two on fewer, `p` and `q`.
pub struct Case {
    pub shape: Vec<usize>,
    variables: Vec<Variable>,
}

/// The types of stored numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Element {
    I1,
    I2,
    I4,
    I8,
    U1,
    U2,
    U4,
    U8,
    F4,
    F8,
}

use Element::{F4, F8, I1, I2, I4, I8, U1, U2, U4, U8};

const ELEMENTS: [Element; 14] = [F4, F4, F4, F4, F8, F8, I1, I2, I4, I8, U1, U2, U4, U8];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Integer(i128),
    Float(f64),
}

use Number::{Float, Integer};

/// Stored numbers, and what they mean.
struct Variable {
    name: &'static str,
    /// Its dimensions, which follow each other.
    axes: Range<usize>,
    element: Element,
    big_endian: bool,
    fortran: bool,
    chunks: Vec<usize>,
    stored: Vec<Number>,
    /// The number of cells that are not written, if any can be left out.
    fill: Option<Number>,
    /// Numbers that are missing.
    missing: Vec<Number>,
    /// The least and the greatest number that is valid.
    valid: Option<(Number, Number)>,
    /// Scale and offset.
    packing: Option<(f64, f64)>,
    attributes: Vec<String>,
}

impl Case {
    /// A grid of `least` to four dimensions.
    pub fn new(random: &mut Random, least: usize) -> Self {
        let dims = match random.below(16) {
            0 => least,
            _ => 1 + random.below(4),
        };
        let shape: Vec<usize> = (0..dims)
            .map(|_| match random.below(14) {
                0 => random.below(2),
                _ => 1 + random.below(if dims < 3 { 13 } else { 8 }),
            })
            .collect();
        let mut variables: Vec<Variable> = (0..dims)
            .map(|axis| Variable::coordinate(random, axis, shape[axis]))
            .collect();
        for name in ["a", "b"] {
            variables.push(Variable::new(random, name, 0..dims, &shape));
        }
        for name in ["p", "q"] {
            let rank = if dims == 0 { 0 } else { random.below(dims) };
            let first = if dims == 0 {
                0
            } else {
                random.below(dims - rank + 1)
            };
            variables.push(Variable::new(random, name, first..first + rank, &shape));
        }
        Self { shape, variables }
    }

    /// Writes the grid as a Zarr store of uncompressed chunks; chunks of nothing but fill are left out.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(".zgroup"), r#"{"zarr_format":2}"#).unwrap();
        for variable in &self.variables {
            variable.write(folder, &self.shape);
        }
    }

    /// The same rows, one by one; with `nan`, NaN is a value.
    pub fn table(&self, nan: bool) -> MemTable {
        let columns: Vec<ArrayRef> = self
            .variables
            .iter()
            .map(|variable| variable.column(&self.shape, nan))
            .collect();
        let named = self.variables.iter().zip(&columns);
        let fields: Vec<Field> = named
            .map(|(variable, values)| Field::new(variable.name, values.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        MemTable::try_new(schema, vec![vec![batch]]).unwrap()
    }

    /// The largest magnitude of a finite number, which floating-point errors grow with.
    pub fn magnitude(&self) -> f64 {
        let all = self.variables.iter().flat_map(|variable| {
            let stored = variable.stored.iter().map(|number| number.float().abs());
            stored.filter(|number| number.is_finite())
        });
        all.fold(1.0, f64::max)
    }

    /// The grid in a line, for a message.
    pub fn describe(&self) -> String {
        let variables: Vec<String> = self
            .variables
            .iter()
            .map(|v| {
                format!(
                    "{}{:?}: {:?}{} chunks {:?} fill {:?} missing {:?} valid {:?} packed {:?}",
                    v.name,
                    v.axes,
                    v.element,
                    if v.fortran { " F" } else { "" },
                    v.chunks,
                    v.fill,
                    v.missing,
                    v.valid,
                    v.packing
                )
            })
            .collect();
        format!("{:?}\n  {}", self.shape, variables.join("\n  "))
    }
}

impl Variable {
    fn coordinate(random: &mut Random, axis: usize, length: usize) -> Self {
        let integers = random.once_in(5);
        let kind = random.below(6);
        let stored = (0..length)
            .map(|index| {
                let whole = i128::try_from(index).unwrap();
                match (integers, kind) {
                    (true, 0 | 1) => Integer(whole * 2 - 3),
                    (true, 2 | 3) => Integer(7 - whole),
                    (true, _) => Integer(i128::try_from(random.below(6)).unwrap() - 2),
                    (false, 0 | 1) => Float(index as f64 * 2.5 - 3.0),
                    (false, 2) => Float(7.0 - index as f64),
                    (false, 3) => Float((index / 2) as f64),
                    (false, 4) => Float(random.below(6) as f64 - 2.0),
                    (false, _) => Float(match random.below(7) {
                        0 => f64::NAN,
                        1 => 0.0,
                        other => other as f64 * 0.5,
                    }),
                }
            })
            .collect();
        Self {
            name: NAMES[axis],
            axes: axis..axis + 1,
            element: if integers { I4 } else { F8 },
            big_endian: random.once_in(6),
            fortran: false,
            chunks: vec![1 + random.below(length + 1)],
            stored,
            fill: None,
            missing: Vec::new(),
            valid: None,
            packing: None,
            attributes: Vec::new(),
        }
    }

    fn new(random: &mut Random, name: &'static str, axes: Range<usize>, shape: &[usize]) -> Self {
        let element = ELEMENTS[random.below(ELEMENTS.len())];
        let here = &shape[axes.clone()];
        let wide = random.once_in(6);
        let number = |value: i32| match element {
            F4 | F8 => Float(f64::from(value)),
            _ => Integer(value.into()),
        };
        // A number that no ordinary cell has, and that fits into a byte.
        let apart = number(if element.is_signed() { -99 } else { 200 });
        let (mut fill, mut missing, mut valid) = (None, Vec::new(), None);
        let mut attributes = Vec::new();
        match random.below(9) {
            0 => {}
            1 => {
                // What is not written has an ordinary value.
                missing.push(apart);
                attributes.push(format!(r#""_FillValue":{}"#, apart.json()));
                fill = Some(number(2));
            }
            2 => {
                missing.extend([number(1), number(3)]);
                attributes.push(r#""missing_value":[1,3]"#.into());
            }
            3 => {
                missing.extend([apart, number(0), number(2), number(4)]);
                attributes.push(r#""missing_value":[0,2,4]"#.into());
                fill = Some(apart);
            }
            4 => {
                valid = Some((number(1), number(4)));
                attributes.push(r#""valid_range":[1,4]"#.into());
                missing.push(apart);
                fill = Some(apart);
            }
            5 if matches!(element, F4 | F8) => fill = Some(Float(f64::NAN)),
            _ => {
                missing.push(apart);
                fill = Some(apart);
            }
        }
        let packing = match random.below(5) {
            0 => Some((0.25, 10.0)),
            1 => Some((-0.5, 3.0)),
            _ => None,
        }
        .filter(|_| !wide);
        if let Some((scale, offset)) = packing {
            attributes.push(format!(
                r#""scale_factor":{scale:?},"add_offset":{offset:?}"#
            ));
        }
        // Beyond some index of some dimension there is nothing, so that whole chunks are not written.
        let edge = (!here.is_empty() && random.once_in(2)).then(|| {
            let dim = random.below(here.len());
            (dim, random.below(here[dim] + 1))
        });
        let cells = here.iter().product();
        let stored = (0..cells)
            .map(|cell| {
                if let (Some((dim, from)), Some(fill)) = (edge, fill)
                    && place(cell, here)[dim] >= from
                {
                    return fill;
                }
                match random.below(10) {
                    0 => fill.unwrap_or(number(1)),
                    1 => missing.first().copied().unwrap_or(number(0)),
                    _ => element.number(random, wide),
                }
            })
            .collect();
        Self {
            name,
            element,
            big_endian: random.once_in(4),
            fortran: random.once_in(3),
            chunks: here.iter().map(|n| 1 + random.below(n + 2)).collect(),
            axes,
            stored,
            fill,
            missing,
            valid,
            packing,
            attributes,
        }
    }

    fn write(&self, folder: &Path, shape: &[usize]) {
        let order = if self.big_endian { '>' } else { '<' };
        let bytes = |number: Number| {
            let mut bytes = self.element.bytes(number);
            if self.big_endian {
                bytes.reverse();
            }
            bytes
        };
        let fill = self.fill.map(|fill| (fill.json(), bytes(fill)));
        let cells: Vec<Vec<u8>> = self.stored.iter().map(|number| bytes(*number)).collect();
        Stored {
            kind: &match self.element.size() {
                1 => format!("|{}", self.element.name()),
                _ => format!("{order}{}", self.element.name()),
            },
            dims: &NAMES[self.axes.clone()],
            shape: &shape[self.axes.clone()],
            chunks: &self.chunks,
            cells: &cells,
            fill,
            fortran: self.fortran,
            attributes: &self.attributes,
        }
        .write(&folder.join(self.name));
    }

    /// The value of a stored number.
    fn value(&self, stored: Number, nan: bool) -> Option<Number> {
        let is_missing = match stored {
            Float(value) if value.is_nan() => {
                // A fill value that is NaN means NaN.
                !nan || self.fill.is_some_and(|fill| fill.float().is_nan())
            }
            _ => {
                let outside = self.valid.is_some_and(|(low, high)| {
                    stored.float() < low.float() || stored.float() > high.float()
                });
                outside || self.missing.contains(&stored)
            }
        };
        (!is_missing).then(|| match self.packing {
            Some((scale, offset)) => Float(stored.float() * scale + offset),
            None => stored,
        })
    }

    /// The values of all cells of the grid.
    fn column(&self, shape: &[usize], nan: bool) -> ArrayRef {
        let cells: usize = shape.iter().product();
        let own = &shape[self.axes.clone()];
        let values: Vec<Option<Number>> = (0..cells)
            .map(|cell| {
                let place = &place(cell, shape)[self.axes.clone()];
                let flat = place.iter().zip(own).fold(0, |flat, (i, n)| flat * n + i);
                self.value(self.stored[flat], nan)
            })
            .collect();
        let element = if self.packing.is_some() {
            F8
        } else {
            self.element
        };
        element.column(&values)
    }
}

/// An uncompressed Zarr array.
pub struct Stored<'a> {
    /// The data type, as Zarr writes it.
    pub kind: &'a str,
    pub dims: &'a [&'a str],
    pub shape: &'a [usize],
    pub chunks: &'a [usize],
    /// The bytes of every cell.
    pub cells: &'a [Vec<u8>],
    /// The fill value as JSON and in bytes: chunks of nothing else are left out.
    pub fill: Option<(String, Vec<u8>)>,
    /// Whether the first dimension varies fastest within a chunk.
    pub fortran: bool,
    /// More members of the attributes.
    pub attributes: &'a [String],
}

impl Stored<'_> {
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let fill = self.fill.as_ref().map_or("null", |(json, _)| json);
        let Self {
            kind,
            shape,
            chunks,
            dims,
            ..
        } = self;
        let order = if self.fortran { "F" } else { "C" };
        let metadata = format!(
            r#"{{"zarr_format":2,"shape":{shape:?},"chunks":{chunks:?},"dtype":"{kind}","compressor":null,"fill_value":{fill},"order":"{order}","filters":null}}"#
        );
        std::fs::write(folder.join(".zarray"), metadata).unwrap();
        let mut attributes = vec![format!(r#""_ARRAY_DIMENSIONS":{dims:?}"#)];
        attributes.extend_from_slice(self.attributes);
        let attributes = format!("{{{}}}", attributes.join(","));
        std::fs::write(folder.join(".zattrs"), attributes).unwrap();
        let counts: Vec<usize> = shape
            .iter()
            .zip(*chunks)
            .map(|(n, c)| n.div_ceil(*c))
            .collect();
        for number in 0..counts.iter().product() {
            let coord = place(number, &counts);
            if let Some(bytes) = self.chunk(&coord) {
                let key: Vec<String> = coord.iter().map(ToString::to_string).collect();
                let key = if key.is_empty() {
                    "0".to_owned()
                } else {
                    key.join(".")
                };
                std::fs::write(folder.join(key), bytes).unwrap();
            }
        }
    }

    /// The bytes of a chunk; `None` if it may stay unwritten.
    fn chunk(&self, coord: &[usize]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let fill = self.fill.as_ref().map(|(_, bytes)| bytes);
        let mut written = fill.is_none();
        for cell in 0..self.chunks.iter().product() {
            let inside = if self.fortran {
                let reversed: Vec<usize> = self.chunks.iter().rev().copied().collect();
                place(cell, &reversed).into_iter().rev().collect()
            } else {
                place(cell, self.chunks)
            };
            let at: Vec<usize> = coord
                .iter()
                .zip(self.chunks)
                .zip(&inside)
                .map(|((k, c), i)| k * c + i)
                .collect();
            let cell = if at.iter().zip(self.shape).all(|(i, n)| i < n) {
                let flat = at.iter().zip(self.shape);
                let cell = &self.cells[flat.fold(0, |flat, (i, n)| flat * n + i)];
                written |= fill != Some(cell);
                cell.clone()
            } else {
                // What lies beyond the edge means nothing.
                vec![7; self.cells[0].len()]
            };
            bytes.extend(cell);
        }
        written.then_some(bytes)
    }
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Integer(value) => value as f64,
            Float(value) => value,
        }
    }

    fn json(self) -> String {
        match self {
            Integer(value) => value.to_string(),
            Float(value) if value.is_nan() => r#""NaN""#.into(),
            Float(value) => format!("{value:?}"),
        }
    }
}

impl Element {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn size(self) -> usize {
        match self {
            I1 | U1 => 1,
            I2 | U2 => 2,
            I4 | U4 | F4 => 4,
            I8 | U8 | F8 => 8,
        }
    }

    fn is_signed(self) -> bool {
        !matches!(self, U1 | U2 | U4 | U8)
    }

    /// An ordinary number, or one near the ends of the type. Sums of them are exact, or wrap.
    fn number(self, random: &mut Random, wide: bool) -> Number {
        let small = i128::try_from(random.below(9)).unwrap();
        match self {
            F4 | F8 if random.once_in(10) => Float(match random.below(6) {
                0 => f64::INFINITY,
                1 => f64::NEG_INFINITY,
                2 => -0.0,
                _ => f64::NAN,
            }),
            F4 | F8 => Float(small as f64 * 0.5 - 1.5),
            // Large, but of one sign: their variance is well conditioned.
            I8 | U8 if wide => Integer((1 << 60) << random.below(3)),
            I1 | I2 | I4 if wide => {
                let bits = self.size() * 8 - 1;
                let ends = [-(1 << bits), (1 << bits) - 1, -5, 0, 17];
                Integer(ends[random.below(ends.len())])
            }
            U1 | U2 | U4 if wide => {
                let ends = [(1 << (self.size() * 8)) - 1, 0, 17, 201];
                Integer(ends[random.below(ends.len())])
            }
            I1 | I2 | I4 | I8 => Integer(small - 3),
            U1 | U2 | U4 | U8 => Integer(small),
        }
    }

    /// Little-endian bytes.
    fn bytes(self, number: Number) -> Vec<u8> {
        match (self, number) {
            (F4, value) => single(value.float()).to_le_bytes().to_vec(),
            (F8, value) => value.float().to_le_bytes().to_vec(),
            (_, Integer(value)) => value.to_le_bytes()[..self.size()].to_vec(),
            (_, Float(value)) => panic!("{value} is not an integer"),
        }
    }

    fn column(self, values: &[Option<Number>]) -> ArrayRef {
        macro_rules! integers {
            ($array:ty, $native:ty) => {
                Arc::new(
                    values
                        .iter()
                        .map(|value| match value {
                            Some(Integer(value)) => Some(<$native>::try_from(*value).unwrap()),
                            Some(Float(value)) => panic!("{value} is not an integer"),
                            None => None,
                        })
                        .collect::<$array>(),
                )
            };
        }
        let floats = values.iter().map(|value| value.map(Number::float));
        match self {
            I1 => integers!(Int8Array, i8),
            I2 => integers!(Int16Array, i16),
            I4 => integers!(Int32Array, i32),
            I8 => integers!(Int64Array, i64),
            U1 => integers!(UInt8Array, u8),
            U2 => integers!(UInt16Array, u16),
            U4 => integers!(UInt32Array, u32),
            U8 => integers!(UInt64Array, u64),
            F4 => {
                let floats = floats.map(|value| value.map(single));
                Arc::new(floats.collect::<Float32Array>())
            }
            F8 => Arc::new(floats.collect::<Float64Array>()),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "small numbers and halves, which both precisions have"
)]
fn single(value: f64) -> f32 {
    value as f32
}

/// The C-order place of a number in a box.
fn place(number: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = number;
    let mut place = vec![0; shape.len()];
    for (at, extent) in place.iter_mut().zip(shape).rev() {
        *at = rest % extent;
        rest /= extent;
    }
    place
}
