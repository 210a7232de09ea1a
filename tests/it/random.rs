//! Random grids and random statements: the scan of an array gives the rows of a table that was built cell by cell.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::MemTable;
use hyperslab::Session;
use serde_json::Value;

use crate::common::{alike, rows, session};

/// A small deterministic generator (xorshift): the same cases in every run.
pub struct Random(pub u64);

impl Random {
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
}

/// A grid: coordinates, and values of two variables with different chunks, and of one on the last dimensions.
struct Case {
    shape: Vec<usize>,
    coordinates: Vec<Vec<f64>>,
    variables: Vec<Vec<f32>>,
    plane: Vec<f32>,
    /// Number of trailing dimensions of the plane.
    rank: usize,
}

const NAMES: [&str; 4] = ["w", "z", "y", "x"];

impl Case {
    fn new(random: &mut Random) -> Self {
        let dims = 1 + random.below(4);
        let shape: Vec<usize> = (0..dims)
            .map(|_| {
                if random.below(12) == 0 {
                    random.below(2)
                } else {
                    1 + random.below(9)
                }
            })
            .collect();
        let coordinates = shape
            .iter()
            .map(|length| {
                let kind = random.below(4);
                (0..*length)
                    .map(|index| match kind {
                        0 => index as f64 * 2.5 - 3.0,
                        1 => 7.0 - index as f64,
                        2 => (index / 2) as f64,
                        _ => random.below(6) as f64 - 2.0,
                    })
                    .collect()
            })
            .collect();
        let cells: usize = shape.iter().product();
        let mut value = || match random.below(12) {
            0 => f32::NAN,
            1 => -999.0,
            2 => -0.0,
            3 => f32::INFINITY,
            other => other as f32 * 0.5 - 2.0,
        };
        let variables = (0..2)
            .map(|_| (0..cells).map(|_| value()).collect())
            .collect();
        let rank = dims - 1;
        let plane_cells = shape.iter().skip(dims - rank).product();
        let plane = (0..plane_cells).map(|_| value()).collect();
        Self {
            shape,
            coordinates,
            variables,
            plane,
            rank,
        }
    }

    /// Writes the grid as a Zarr store of uncompressed chunks; chunks of nothing but fill are left out.
    fn write(&self, folder: &Path, random: &mut Random) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(".zgroup"), r#"{"zarr_format":2}"#).unwrap();
        let names = &NAMES[..self.shape.len()];
        for (name, values) in names.iter().zip(&self.coordinates) {
            let bytes: Vec<Vec<u8>> = values
                .iter()
                .map(|value| value.to_le_bytes().to_vec())
                .collect();
            array(
                folder,
                name,
                "<f8",
                &[name],
                &[values.len()],
                &[values.len().max(1)],
                &bytes,
                false,
            );
        }
        let single = |values: &[f32]| -> Vec<Vec<u8>> {
            values
                .iter()
                .map(|value| value.to_le_bytes().to_vec())
                .collect()
        };
        for (name, values) in ["a", "b"].iter().zip(&self.variables) {
            let chunks: Vec<usize> = self.shape.iter().map(|n| 1 + random.below(n + 2)).collect();
            array(
                folder,
                name,
                "<f4",
                names,
                &self.shape,
                &chunks,
                &single(values),
                true,
            );
        }
        let of = self.shape.len() - self.rank;
        let chunks: Vec<usize> = self.shape[of..]
            .iter()
            .map(|n| 1 + random.below(n + 1))
            .collect();
        array(
            folder,
            "p",
            "<f4",
            &names[of..],
            &self.shape[of..],
            &chunks,
            &single(&self.plane),
            true,
        );
    }

    /// The same rows, one by one.
    fn table(&self) -> MemTable {
        let cells: usize = self.shape.iter().product();
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        let mut stride = cells;
        for (name, (length, values)) in NAMES.iter().zip(self.shape.iter().zip(&self.coordinates)) {
            stride /= (*length).max(1);
            let column: Vec<f64> = (0..cells)
                .map(|cell| values[cell / stride.max(1) % length])
                .collect();
            columns.push(((*name).to_owned(), Arc::new(Float64Array::from(column))));
        }
        let present = |value: f32| (!value.is_nan() && value != -999.0).then_some(value);
        for (name, values) in ["a", "b"].iter().zip(&self.variables) {
            let column: Float32Array = values.iter().map(|value| present(*value)).collect();
            columns.push(((*name).to_owned(), Arc::new(column)));
        }
        let column: Float32Array = (0..cells)
            .map(|cell| present(self.plane[cell % self.plane.len()]))
            .collect();
        columns.push(("p".to_owned(), Arc::new(column)));
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, values)| {
                Field::new(
                    name,
                    values.data_type().clone(),
                    *values.data_type() == DataType::Float32,
                )
            })
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let values = columns.into_iter().map(|(_, values)| values).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), values).unwrap();
        MemTable::try_new(schema, vec![vec![batch]]).unwrap()
    }
}

/// Writes an uncompressed Zarr array; with `missing`, chunks of nothing but fill are left out.
#[expect(clippy::too_many_arguments, reason = "an array has that many parts")]
pub fn array(
    folder: &Path,
    name: &str,
    kind: &str,
    dims: &[&str],
    shape: &[usize],
    chunks: &[usize],
    cells: &[Vec<u8>],
    missing: bool,
) {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let fill = if missing { "-999" } else { "null" };
    let metadata = format!(
        r#"{{"zarr_format":2,"shape":{shape:?},"chunks":{chunks:?},"dtype":"{kind}","compressor":null,"fill_value":{fill},"order":"C","filters":null}}"#
    );
    std::fs::write(folder.join(".zarray"), metadata).unwrap();
    std::fs::write(
        folder.join(".zattrs"),
        format!(r#"{{"_ARRAY_DIMENSIONS":{dims:?}}}"#),
    )
    .unwrap();
    let size = if kind.ends_with('8') { 8 } else { 4 };
    let counts: Vec<usize> = shape
        .iter()
        .zip(chunks)
        .map(|(n, c)| n.div_ceil(*c))
        .collect();
    for number in 0..counts.iter().product() {
        let coord = place(number, &counts);
        let mut bytes = Vec::new();
        let mut written = !missing;
        for cell in 0..chunks.iter().product() {
            let inside = place(cell, chunks);
            let at: Vec<usize> = coord
                .iter()
                .zip(chunks)
                .zip(&inside)
                .map(|((k, c), i)| k * c + i)
                .collect();
            if at.iter().zip(shape).all(|(i, n)| i < n) {
                let flat = at.iter().zip(shape).fold(0, |flat, (i, n)| flat * n + i);
                written |= cells[flat] != (-999f32).to_le_bytes();
                bytes.extend_from_slice(&cells[flat]);
            } else {
                bytes.extend(vec![7; size]);
            }
        }
        if written {
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

fn predicate(random: &mut Random, dims: usize) -> String {
    let dim = random.pick(&NAMES[..dims]);
    let other = random.pick(&NAMES[..dims]);
    let value = random.below(9) as f64 - 3.0;
    let op = random.pick(&["=", "<>", "<", "<=", ">", ">="]);
    match random.below(11) {
        0 | 1 => format!("{dim} {op} {value}"),
        2 => format!("CAST({dim} AS INT) % 3 = 0"),
        3 => format!("{dim} BETWEEN {value} AND {}", value + 4.0),
        4 => format!("({dim} {op} {value} OR {other} > 1)"),
        5 => format!("{dim} + {other} {op} {value}"),
        6 => format!("a {op} {value}"),
        7 => format!("p {op} {value}"),
        8 => format!("(p IS NULL OR {dim} < {value})"),
        9 => format!("(a > b OR {dim} = {value})"),
        _ => format!("{dim} IN (0, 1, {value})"),
    }
}

fn statement(random: &mut Random, dims: usize) -> String {
    let count = random.below(4);
    let terms: Vec<String> = (0..count).map(|_| predicate(random, dims)).collect();
    let filter = if terms.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", terms.join(" AND "))
    };
    let all = NAMES[..dims].join(", ");
    let dim = random.pick(&NAMES[..dims]);
    match random.below(7) {
        0 => format!(
            "SELECT count(*), count(a), sum(CAST(a AS DOUBLE)), min(b), max(p) FROM t {filter}"
        ),
        1 => format!(
            "SELECT {dim}, count(*), count(b), max(a) FROM t {filter} GROUP BY {dim} ORDER BY {dim}"
        ),
        2 => format!("SELECT * FROM t {filter} ORDER BY {all}, a, b, p"),
        3 => format!(
            "SELECT {dim}, a FROM t {filter} ORDER BY {dim} DESC, a LIMIT {}",
            1 + random.below(9)
        ),
        4 => format!(
            "SELECT min({dim}), max({dim}), count(DISTINCT {dim}), count(*) FROM t {filter}"
        ),
        5 => format!(
            "SELECT count(*) FROM (SELECT b FROM t {filter} LIMIT {})",
            random.below(40)
        ),
        _ => format!(
            "SELECT l.{dim}, count(*) FROM t l JOIN (SELECT {dim}, max(b) AS m FROM t {filter} GROUP BY {dim}) r ON l.{dim} = r.{dim} GROUP BY l.{dim} ORDER BY 1"
        ),
    }
}

pub async fn settings(session: &Session, random: &mut Random) -> Vec<String> {
    let mut chosen = Vec::new();
    for name in [
        "push_index_sets",
        "push_planes",
        "push_dynamic",
        "use_statistics",
    ] {
        if random.below(4) == 0 {
            chosen.push(format!("hyperslab.{name} = false"));
        }
    }
    chosen.push(format!(
        "hyperslab.tile_bytes = {}",
        [1, 50, 1000, 1_000_000][random.below(4)]
    ));
    chosen.push(format!(
        "hyperslab.rechunk_bytes = {}",
        [1, 200, 1_000_000][random.below(3)]
    ));
    chosen.push(format!(
        "datafusion.execution.batch_size = {}",
        [1, 3, 8192][random.below(3)]
    ));
    chosen.push(format!(
        "datafusion.execution.target_partitions = {}",
        [1, 2, 5][random.below(3)]
    ));
    for setting in &chosen {
        session.sql(&format!("SET {setting}")).await.unwrap();
    }
    chosen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_statements_on_random_grids() {
    let cases = std::env::var("HYPERSLAB_RANDOM_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(40);
    let mut wrong = Vec::new();
    for seed in 1..=cases {
        let mut random =
            Random(0x9E37_79B9_7F4A_7C15 ^ u64::wrapping_mul(seed, 0x2545_F491_4F6C_DD1D));
        let case = Case::new(&mut random);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.zarr");
        case.write(&path, &mut random);
        let plain = session();
        plain
            .context()
            .register_table("t", Arc::new(case.table()))
            .unwrap();
        for _ in 0..12 {
            let sql = statement(&mut random, case.shape.len());
            let arrays = session();
            let chosen = settings(&arrays, &mut random).await;
            let ours = sql.replace(" t ", &format!(" '{}' t ", path.display()));
            let got = rows(&arrays, &ours.replace("' t l", "' l")).await;
            let want = rows(&plain, &sql).await;
            match (got, want) {
                (Ok(got), Ok(want))
                    if alike(
                        &Value::Array(got.clone()),
                        &Value::Array(want.clone()),
                        1e-6,
                    ) => {}
                (Err(_), Err(_)) => {}
                (got, want) => wrong.push(format!(
                    "seed {seed} {:?} {chosen:?}\n {sql}\n got  {got:?}\n want {want:?}",
                    case.shape
                )),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(10)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}
