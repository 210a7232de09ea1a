//! Real files of other projects, compared with ground truth computed by the reference libraries; skipped where the
//! corpus is not beside the project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::datatypes::DataType;
use hyperslab::session::Session;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::common::{batches, project, row, session};

/// Words of which at least one names the feature in a refusal: these are not read yet, or never exactly.
const FEATURES: &[&str] = &[
    "filter",
    "codec",
    "compound",
    "reference",
    "virtual",
    "external",
    "opaque",
    "variable-length",
    "complex",
    "szip",
    "nbit",
    "scale-offset",
    "bit field",
    "zip",
    "structured",
    "time units",
    "array type",
    "precision",
    "data type",
    "storage transformer",
    "null dataspace",
    "items have",
    "has no table or variable 'number_of_",
    "dtype",
    "chunk_grid",
    "object codec",
];

/// Where the truth is not what the file says: file, beginning of the difference, why.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "just_time_offset-7.nc",
        "time time",
        "the reference library ignores the zone -7:00, whose hour has one digit; the conventions have one as example",
    ),
    (
        "95031800_sao.cdf",
        "\"Ptend\"",
        "one character a record along the unlimited dimension: the truth joins those of all records to one text",
    ),
    (
        "mixed.exo",
        "\"coor_names\"",
        "what follows the NUL in these texts is not Unicode: the truth has lone surrogates for it, which JSON cannot hold",
    ),
    (
        "bad_missing_data.nc",
        "temp ",
        "both dimensions are unlimited and longer than what is stored: the reference library leaves one cell uninitialised",
    ),
];

fn corpus() -> Option<PathBuf> {
    let folder = project("../shared/corpus");
    folder.join("truth.jsonl").exists().then_some(folder)
}

/// What came of one file.
#[derive(Default)]
struct Report {
    compared: AtomicUsize,
    differences: Mutex<Vec<String>>,
    refused: Mutex<Vec<(String, String)>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_files_have_no_differences_from_the_truth() {
    let Some(folder) = corpus() else {
        println!("skipped: there is no corpus beside the project");
        return;
    };
    let truth = std::fs::read_to_string(folder.join("truth.jsonl")).unwrap();
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in truth.lines() {
        // Names that are not Unicode stand as lone surrogates, which JSON text in Rust cannot hold.
        let record: Value = serde_json::from_str(line)
            .or_else(|_| serde_json::from_str(&line.replace("\\ud", "?")))
            .unwrap();
        let file = record["file"].as_str().unwrap().to_owned();
        if record["var"].is_string() {
            files.entry(file).or_default().push(record);
        }
    }
    let report = Arc::new(Report::default());
    let queue = Arc::new(Mutex::new(files));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (queue, report) = (Arc::clone(&queue), Arc::clone(&report));
        let folder = folder.clone();
        workers.push(tokio::spawn(async move {
            loop {
                let Some((file, records)) = queue.lock().await.pop_first() else {
                    return;
                };
                let path = folder.join("files").join(&file);
                let check = Check::new(path.to_str().unwrap().to_owned(), Arc::clone(&report));
                for record in records {
                    check.variable(&record).await;
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let refused = report.refused.lock().await;
    let unnamed: Vec<&(String, String)> = refused
        .iter()
        .filter(|(_, why)| {
            let why = why.to_lowercase();
            !FEATURES.iter().any(|feature| why.contains(feature))
        })
        .collect();
    let compared = report.compared.load(Ordering::Relaxed);
    println!(
        "{compared} answers compared, {} variables refused",
        refused.len()
    );
    if std::env::var_os("HYPERSLAB_SHOW_REFUSED").is_some() {
        for (what, why) in refused.iter() {
            println!("refused {what}: {why}");
        }
    }
    let differences = report.differences.lock().await;
    assert!(
        differences.is_empty(),
        "{}\n{} differences",
        differences.join("\n"),
        differences.len()
    );
    assert!(
        unnamed.is_empty(),
        "{} refusals name no feature: {unnamed:#?}",
        unnamed.len()
    );
    assert!(compared > 5000, "only {compared} answers were compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_files_give_errors() {
    let Some(folder) = corpus() else {
        println!("skipped: there is no corpus beside the project");
        return;
    };
    let datasets = datasets(&folder.join("malformed"));
    assert!(
        datasets.len() >= 45,
        "only {} files were found",
        datasets.len()
    );
    let mut read = Vec::new();
    for path in datasets {
        let started = std::time::Instant::now();
        let name = path.to_str().unwrap();
        let answer = batches(&session(), &format!("SELECT * FROM '{name}'")).await;
        // Far above what any of them needs: it catches a hang, on any machine.
        assert!(
            started.elapsed().as_secs() < 10,
            "{name} took {:?}",
            started.elapsed()
        );
        if answer.is_ok() {
            read.push(path);
        }
    }
    read.retain(|path| !READABLE.iter().any(|(name, _)| path.ends_with(name)));
    assert!(read.is_empty(), "no error for {read:#?}");
}

/// Files that other readers refuse and that can be read all the same, and why.
const READABLE: &[(&str, &str)] = &[(
    "h5repack_attr_refs.h5",
    "the HDF5 library reads its arrays; netCDF refuses an attribute",
)];

/// The files below a folder; a folder that is a Zarr store is one of them, and what it holds is not.
fn datasets(folder: &Path) -> Vec<PathBuf> {
    let is_store = ["zarr.json", ".zgroup", ".zarray"]
        .iter()
        .any(|name| folder.join(name).exists());
    if is_store {
        return vec![folder.to_owned()];
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(datasets(&path));
        } else {
            found.push(path);
        }
    }
    found
}

struct Check {
    path: String,
    /// Decoded values; stored values.
    cf: Session,
    raw: Session,
    report: Arc<Report>,
}

impl Check {
    fn new(path: String, report: Arc<Report>) -> Self {
        Self {
            path,
            cf: session(),
            raw: session(),
            report,
        }
    }

    async fn variable(&self, truth: &Value) {
        let var = truth["var"].as_str().unwrap();
        let name = if var == "." { "" } else { var };
        if let Err(error) = self.compare(truth, name).await {
            let error = hyperslab::session::sentence(&error);
            self.report
                .refused
                .lock()
                .await
                .push((format!("{} {var}", self.path), error));
        }
    }

    async fn compare(&self, truth: &Value, var: &str) -> datafusion::common::Result<()> {
        for session in [&self.cf, &self.raw] {
            session.sql("SET hyperslab.index_columns = true").await?;
        }
        self.raw.sql("SET hyperslab.decode = false").await?;
        let from = self.table(var, None);
        // The first statement that touches the variable: if it is refused, the variable is.
        let schema = self
            .cf
            .sql(&format!("SELECT * FROM {from} LIMIT 0"))
            .await?;
        let fields = schema.schema().fields().clone();
        let short = var.rsplit('/').next().unwrap();
        let column = match fields.iter().find(|field| field.name() == short) {
            Some(field) => Arc::clone(field),
            None => fields
                .iter()
                .rfind(|field| !field.name().ends_with("_i"))
                .cloned()
                .ok_or_else(|| datafusion::common::plan_datafusion_err!("no column {short}"))?,
        };
        let quoted = format!("\"{}\"", column.name());
        let dims: Vec<String> = fields
            .iter()
            .filter_map(|field| field.name().strip_suffix("_i"))
            .map(str::to_owned)
            .collect();
        match truth["kind"].as_str().unwrap() {
            "num" if truth.get("cf_full").is_some() => {
                self.numbers(truth, &quoted, &from, var, &dims, column.data_type())
                    .await
            }
            "str" | "char" => self.texts(truth, &quoted, &from).await,
            _ => Ok(()),
        }
    }

    fn table(&self, var: &str, slices: Option<&str>) -> String {
        let path = self.path.replace('\'', "''");
        let slices = slices.map_or(String::new(), |slices| format!(", '{slices}'"));
        match (var, slices.as_str()) {
            ("", "") => format!("read_array('{path}')"),
            ("", slices) => {
                let name = Path::new(&self.path).file_stem().unwrap().to_str().unwrap();
                format!("read_array('{path}', '{name}'{slices})")
            }
            (var, slices) => format!(
                "read_array('{path}', '{}'{slices})",
                var.replace('\'', "''")
            ),
        }
    }

    async fn numbers(
        &self,
        truth: &Value,
        column: &str,
        from: &str,
        var: &str,
        dims: &[String],
        kind: &DataType,
    ) -> datafusion::common::Result<()> {
        let is_time = matches!(kind, DataType::Timestamp(..) | DataType::Utf8);
        let is_bool = *kind == DataType::Boolean;
        let (session, policy) = if is_time {
            (&self.raw, "raw")
        } else {
            (&self.cf, "cf_full")
        };
        let single = *kind == DataType::Float32;
        let column = if is_bool {
            format!("CAST({column} AS INT)")
        } else {
            column.to_owned()
        };
        let quoted = column.clone();
        let column = match kind {
            // Stored values of times: the truth counts NaN apart.
            DataType::Timestamp(..) | DataType::Utf8 => {
                format!("nullif(CAST({column} AS DOUBLE), CAST('NaN' AS DOUBLE))")
            }
            _ => column,
        };
        let select = format!(
            "SELECT count({column}), min({column}), max({column}), sum(CAST({column} AS DOUBLE)) FROM"
        );
        let got = row(session, &format!("{select} {from}")).await?;
        self.judge(&format!("{var} whole"), &got, &truth[policy], single)
            .await;
        let masks_alike = truth["cf_full"]["count"] == truth["cf"]["count"];
        for slab in truth["slabs"].as_array().into_iter().flatten() {
            if slab["cf_full_count"] != slab["cf"]["count"] || is_time {
                continue;
            }
            let slices: Vec<String> = slab["index"]
                .as_array()
                .unwrap()
                .iter()
                .map(|range| format!("{}:{}", range[0], range[1]))
                .collect();
            let part = self.table(var, Some(&slices.join(", ")));
            let got = row(session, &format!("{select} {part}")).await?;
            self.judge(
                &format!("{var} [{}]", slices.join(", ")),
                &got,
                &slab["cf"],
                single,
            )
            .await;
            let Some(coord) = slab["coord"].as_object() else {
                continue;
            };
            let mut terms = Vec::new();
            for (range, dim) in slab["index"].as_array().unwrap().iter().zip(dims) {
                let (low, high) = (&range[0], range[1].as_u64().unwrap().saturating_sub(1));
                match coord.get(dim).filter(|_| range[0] != range[1]) {
                    Some(bounds) => terms.push(self.interval(from, dim, bounds, low, high).await?),
                    None => terms.push(format!("\"{dim}_i\" BETWEEN {low} AND {high}")),
                }
            }
            if slab["cf"]["count"] == 0 && terms.is_empty() {
                continue;
            }
            let sql = format!("{select} {from} WHERE {}", terms.join(" AND "));
            let got = row(session, &sql).await?;
            self.judge(
                &format!("{var} {}", terms.join(" AND ")),
                &got,
                &slab["cf"],
                single,
            )
            .await;
        }
        if let (Some(value), true, false) = (truth["pred"]["value"].as_f64(), masks_alike, is_time)
        {
            let sql = format!(
                "SELECT count(*), sum(CAST({column} AS DOUBLE)) FROM {from} \
                 WHERE CAST({column} AS DOUBLE) > CAST('{value:e}' AS DOUBLE)"
            );
            let got = row(session, &sql).await?;
            let want = &truth["pred"];
            let scale = truth["cf"]["sum_abs"].as_f64().unwrap_or(f64::INFINITY);
            let same = got[0] == want["count"]
                && (number(&got[1]).unwrap_or(0.0) - number(&want["sum"]).unwrap_or(0.0)).abs()
                    <= scale * if single { 2e-7 } else { 1e-12 };
            // A threshold is a value of the data: rounding to single precision may put it on the other side.
            if !same && !single {
                self.differs(format!("{var} > {value}: got {got:?}, want {want}"))
                    .await;
            }
            self.report.compared.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(first) = truth["time"]["first"].as_str()
            && is_time
        {
            let sql = format!(
                "SELECT CAST(min({quoted}) AS TEXT), CAST(max({quoted}) AS TEXT) FROM {from}"
            );
            let got = row(&self.cf, &sql).await?;
            let mut wanted = [first, truth["time"]["last"].as_str().unwrap()];
            wanted.sort_unstable();
            for (got, want) in got.iter().zip(wanted) {
                self.report.compared.fetch_add(1, Ordering::Relaxed);
                let got = got.as_str().unwrap_or("NULL");
                if seconds(got) != seconds(want) {
                    self.differs(format!("{var} time: got {got}, want {want}"))
                        .await;
                }
            }
        }
        Ok(())
    }

    /// The predicate that selects the indices `low..=high` by coordinate: by the interval of the truth, or for times by
    /// the instants at both ends.
    async fn interval(
        &self,
        from: &str,
        dim: &str,
        bounds: &Value,
        low: &Value,
        high: u64,
    ) -> datafusion::common::Result<String> {
        let frame = self
            .cf
            .sql(&format!("SELECT \"{dim}\" FROM {from} LIMIT 0"))
            .await?;
        match frame.schema().field(0).data_type() {
            DataType::Timestamp(..) | DataType::Utf8 => {
                let sql = format!(
                    "SELECT CAST(min(\"{dim}\") AS TEXT), CAST(max(\"{dim}\") AS TEXT) FROM {from} \
                     WHERE \"{dim}_i\" BETWEEN {low} AND {high}"
                );
                let ends = row(&self.cf, &sql).await?;
                let text = |at: usize| ends[at].as_str().unwrap_or("").to_owned();
                Ok(format!("\"{dim}\" BETWEEN '{}' AND '{}'", text(0), text(1)))
            }
            kind => {
                let mut ends = [number(&bounds[0]).unwrap(), number(&bounds[1]).unwrap()];
                if ends.iter().any(|end| end.abs() > 9.9e36) {
                    // A coordinate that was never written is NULL, and in no interval.
                    return Ok(format!("\"{dim}_i\" BETWEEN {low} AND {high}"));
                }
                ends.sort_by(f64::total_cmp);
                // The truth unpacks in double precision; a column in single precision has the same values, rounded.
                let kind = if *kind == DataType::Float32 {
                    "REAL"
                } else {
                    "DOUBLE"
                };
                let [a, b] = ends.map(|end| format!("CAST('{end:e}' AS {kind})"));
                Ok(format!("\"{dim}\" BETWEEN {a} AND {b}"))
            }
        }
    }

    async fn texts(
        &self,
        truth: &Value,
        column: &str,
        from: &str,
    ) -> datafusion::common::Result<()> {
        let sql = format!(
            "SELECT count(*), count(DISTINCT {column}), min({column}), max({column}) FROM {from}"
        );
        let got = row(&self.cf, &sql).await?;
        for (got, name) in got.iter().zip(["n", "distinct", "min", "max"]) {
            self.report.compared.fetch_add(1, Ordering::Relaxed);
            let same = match (got.as_str(), truth[name].as_str()) {
                // The truth keeps the beginning of long texts.
                (Some(got), Some(want)) if want.len() >= 60 => got.starts_with(want),
                _ => *got == truth[name],
            };
            if !same {
                self.differs(format!(
                    "{} {name}: got {got}, want {}",
                    truth["var"], truth[name]
                ))
                .await;
            }
        }
        Ok(())
    }

    async fn judge(&self, what: &str, got: &[Value], want: &Value, single: bool) {
        let tolerance = if single { 2e-7 } else { 1e-12 };
        let scale = number(&want["sum_abs"]).unwrap_or(0.0);
        for (got, name) in got.iter().zip(["count", "min", "max", "sum"]) {
            self.report.compared.fetch_add(1, Ordering::Relaxed);
            let (a, b) = (number(got), number(&want[name]));
            let same = match (a, b) {
                (None, None) => true,
                // Nothing to add up is NULL here and 0 there.
                (None, Some(0.0)) => name == "sum",
                (Some(a), Some(b)) if a == b || (a.is_nan() && b.is_nan()) => true,
                (Some(a), Some(b)) => match name {
                    "count" => false,
                    "sum" => (a - b).abs() <= tolerance * scale,
                    _ => (a - b).abs() <= 2e-7 * b.abs(),
                },
                _ => false,
            };
            if !same {
                self.differs(format!("{what} {name}: got {got}, want {}", want[name]))
                    .await;
            }
        }
    }

    async fn differs(&self, what: String) {
        if KNOWN
            .iter()
            .any(|(file, of, _)| self.path.ends_with(file) && what.starts_with(of))
        {
            return;
        }
        self.report
            .differences
            .lock()
            .await
            .push(format!("{}: {what}", self.path));
    }
}

/// A number, or one of the texts by which JSON carries NaN and infinities.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    }
}

/// An instant without what comes after the whole seconds, except that a fraction of zero is none.
fn seconds(text: &str) -> String {
    text.trim_end_matches('Z')
        .replace(' ', "T")
        .split('.')
        .next()
        .unwrap()
        .to_owned()
}
