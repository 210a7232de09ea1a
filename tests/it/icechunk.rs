//! Repositories of Icechunk, written by icechunk, zarr-python and xarray: versions by name, and changes that are commits.
//!
//! In `main`, cell k (in C order of time, lat, lon) of `tas` is k, with six slices in the snapshot `first` (tag `v1`) and
//! eight in `second`; in the branch `dev` it is k + 1000.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hyperslab::format::icechunk::Icechunk;
use hyperslab::format::{Appender, Committed, OldCells, Region, Versions};
use hyperslab::session::Session;
use hyperslab::store::Store;
use hyperslab::store::write::Durability;
use serde_json::{Value, json};

use crate::common::{analyze, copy_folder, error, little, row, rows, session};

/// The repositories, in both versions of the format, with the ids of their snapshots `first`, `second` and `warmer`.
const REPOSITORIES: [(&str, [&str; 3]); 2] = [
    (
        "icechunk/little.icechunk",
        [
            "TEJ0KS4JJ6F574XM4PQ0",
            "B7TJNGF87N2GP6ZP9500",
            "4AYEGTMHGSMK5DK7JVDG",
        ],
    ),
    (
        "icechunk/first.icechunk",
        [
            "32CS8HCSN9KRHK178KV0",
            "494NHZ0WMV1ADTDQSD7G",
            "3P7ZB0KHQ6M27X6A1JW0",
        ],
    ),
];

#[tokio::test]
async fn versions_are_read_by_their_names() {
    for (name, [first, second, warmer]) in REPOSITORIES {
        let (session, path) = (session(), little(name));
        for (version, slices, add) in [
            (String::new(), 8, 0),
            ("#branch=main".to_owned(), 8, 0),
            ("#version=main".to_owned(), 8, 0),
            ("#branch=dev".to_owned(), 6, 1000),
            ("#tag=v1".to_owned(), 6, 0),
            ("#version=v1".to_owned(), 6, 0),
            (format!("#snapshot={first}"), 6, 0),
            (format!("#snapshot={second}"), 8, 0),
            (format!("#version={warmer}"), 6, 1000),
        ] {
            let sql = format!("SELECT tas FROM '{path}{version}' ORDER BY time, lat, lon");
            let expected: Vec<Value> = (0..slices * 20)
                .map(|k| json!([f64::from(k + add)]))
                .collect();
            assert_eq!(
                rows(&session, &sql).await.unwrap(),
                expected,
                "{name}{version}"
            );
        }
        // In SQL's own words, of a dataset with a name, and of one of its tables.
        session.register("cube", &path).await.unwrap();
        for (from, expected) in [
            ("cube FOR VERSION AS OF 'v1'", json!([7140.0])),
            ("cube.tas FOR VERSION AS OF 'dev'", json!([127_140.0])),
            ("\"cube#tag=v1\"", json!([7140.0])),
        ] {
            let sql = format!("SELECT sum(tas) FROM {from}");
            assert_eq!(
                rows(&session, &sql).await.unwrap(),
                [expected],
                "{name}: {from}"
            );
        }
    }
}

#[tokio::test]
async fn coordinates_groups_and_shards_are_those_of_zarr() {
    for (name, _) in REPOSITORIES {
        let (session, path) = (session(), little(name));
        let sql =
            format!("SELECT time, lat, lon FROM '{path}' WHERE tas IN (0, 117, 159) ORDER BY tas");
        let expected = [
            json!(["2000-01-01T00:00:00", -60.0, 0.0]),
            json!(["2000-01-06T00:00:00", 60.0, 20.0]),
            json!(["2000-01-08T00:00:00", 60.0, 40.0]),
        ];
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        // A shard that is an object, and one that stands in a manifest; the second half of it was never written.
        let sql = format!("SELECT sst FROM '{path}'.\"ocean/sst\" ORDER BY y, x");
        let expected: Vec<Value> = (0..24).map(|k| json!([k])).collect();
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        let sql = format!("SELECT depth FROM '{path}'.\"ocean/depth\" ORDER BY y");
        let expected = [json!([7]), json!([8]), json!([0]), json!([0])];
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        let sql = format!("SELECT value FROM array_attributes('{path}') WHERE name = 'title'");
        let expected = [json!(["a little cube"])];
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn only_the_chunks_that_a_statement_needs_are_read() {
    let (session, path) = (session(), little(REPOSITORIES[0].0));
    let sql = format!(
        "SELECT avg(tas) FROM '{path}' WHERE time >= '2000-01-05' AND lat = 60 AND lon = 40"
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(129.0)]);
    let plan = analyze(&session, &sql).await;
    assert!(
        plan.contains("ArrayReduceExec") && plan.contains("chunks=1/8"),
        "{plan}"
    );
}

#[tokio::test]
async fn a_reference_out_of_a_repository_is_refused_by_its_location() {
    for (name, _) in REPOSITORIES {
        let (session, path) = (session(), format!("{}#branch=dev", little(name)));
        let sql = format!("SELECT far FROM '{path}'.far WHERE n >= 2 ORDER BY n");
        let expected = [json!([30]), json!([40])];
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        let refused = error(&session, &format!("SELECT sum(far) FROM '{path}'.far")).await;
        assert!(
            refused.contains(
                "far: chunk [0]: its bytes are in s3://elsewhere/far.bin, outside of the dataset"
            ),
            "{refused}"
        );
        let sql =
            format!("SELECT stored, object, \"offset\", length FROM array_chunks('{path}', 'far')");
        let expected = [
            json!(["foreign", "s3://elsewhere/far.bin", 16, 8]),
            json!(["inline", null, null, 8]),
        ];
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn versions_are_listed() {
    for (name, [first, second, warmer]) in REPOSITORIES {
        let (session, path) = (session(), little(name));
        let begin = "1CECHNKREP0F1RSTCMT0";
        for (version, expected) in [
            (
                "",
                [
                    json!([second, "second", "main", ""]),
                    json!([first, "first", "", "v1"]),
                ],
            ),
            (
                "#branch=dev",
                [
                    json!([warmer, "warmer", "dev", ""]),
                    json!([first, "first", "", "v1"]),
                ],
            ),
        ] {
            let sql = format!(
                "SELECT version, message, branches, tags FROM array_versions('{path}{version}') ORDER BY time DESC"
            );
            let mut expected = expected.to_vec();
            expected.push(json!([begin, "Repository initialized", "", ""]));
            assert_eq!(
                rows(&session, &sql).await.unwrap(),
                expected,
                "{name}{version}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_there_or_cannot_be_changed_is_named() {
    let repository = Repository::copy(REPOSITORIES[0].0);
    let (session, path) = (session(), repository.to_string());
    for (sql, said) in [
        (
            format!("SELECT * FROM '{path}#tag=v2'"),
            "there is no tag v2; branches: dev, main; tags: v1",
        ),
        (
            format!("SELECT * FROM '{path}#tag=dev'"),
            "there is no tag dev",
        ),
        (
            format!("SELECT * FROM '{path}#snapshot=B7TJNGF87N2GP6ZP9501'"),
            "there is no snapshot B7TJNGF87N2GP6ZP9501",
        ),
        (
            format!("SELECT * FROM '{path}' FOR VERSION AS OF 3"),
            "there is no branch, tag or snapshot 3",
        ),
        (
            format!("INSERT INTO '{path}#tag=v1' SELECT * FROM '{path}'"),
            "an earlier version",
        ),
        (
            format!("ROLLBACK '{path}' TO VERSION 'v2'"),
            "there is no branch, tag or snapshot v2",
        ),
        (
            format!("SELECT * FROM '{}#branch=main'", little("little_v3.zarr")),
            "there is no branch main, because datasets of format zarr have versions with numbers only",
        ),
    ] {
        let refused = error(&session, &sql).await;
        assert!(refused.contains(said), "{sql}: {refused}");
    }
    assert_eq!(repository.count("").await, 160);
}

#[tokio::test]
async fn an_insert_is_a_commit_to_a_branch() {
    for (name, [first, second, warmer]) in REPOSITORIES {
        let repository = Repository::copy(name);
        let session = session();
        repository.append(&session, "", 8, 3).await;
        repository.append(&session, "#branch=dev", 6, 1).await;
        for (version, cells, sum) in [
            (String::new(), 220, 24_090.0),
            (format!("#snapshot={second}"), 160, 12_720.0),
            // Slice 6 of `dev` is 120 to 139.
            ("#branch=dev".to_owned(), 140, 129_730.0),
            (format!("#snapshot={warmer}"), 120, 127_140.0),
            (format!("#snapshot={first}"), 120, 7140.0),
        ] {
            let sql = format!("SELECT count(*), sum(tas) FROM '{repository}{version}'");
            let expected = [json!(cells), json!(sum)];
            assert_eq!(
                row(&session, &sql).await.unwrap(),
                expected,
                "{name}{version}"
            );
        }
        let sql = format!("SELECT message FROM array_versions('{repository}') LIMIT 2");
        let expected = [json!(["append"]), json!(["second"])];
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        // A log of ours would say the same twice.
        assert!(!repository.path.join(".hyperslab/log").exists());
    }
}

#[tokio::test]
async fn a_replacement_leaves_earlier_snapshots_as_they_are() {
    for (name, [_, second, _]) in REPOSITORIES {
        let repository = Repository::copy(name);
        let session = session();
        let sql = format!(
            "REPLACE INTO '{repository}' SELECT time, lat, lon, -tas FROM '{repository}' WHERE lat = 20"
        );
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(40)]);
        for (version, sign) in [(String::new(), -1), (format!("#snapshot={second}"), 1)] {
            let sql = format!("SELECT tas FROM '{repository}{version}' ORDER BY time, lat, lon");
            let expected: Vec<Value> = (0..160)
                .map(|k| json!([f64::from(if k / 5 % 4 == 2 { sign * k } else { k })]))
                .collect();
            assert_eq!(
                rows(&session, &sql).await.unwrap(),
                expected,
                "{name}{version}"
            );
        }
    }
}

#[tokio::test]
async fn a_branch_is_set_back_to_a_snapshot() {
    for (name, [_, second, _]) in REPOSITORIES {
        let repository = Repository::copy(name);
        let session = session();
        let sql = format!("ROLLBACK '{repository}' TO VERSION 'v1'");
        rows(&session, &sql).await.unwrap();
        assert_eq!(repository.count("").await, 120, "{name}");
        // What is not in a branch any more still has its id.
        assert_eq!(
            repository.count(&format!("#snapshot={second}")).await,
            160,
            "{name}"
        );
        repository.append(&session, "", 6, 1).await;
        assert_eq!(repository.count("").await, 140, "{name}");
        let sql = format!("ROLLBACK '{repository}#branch=dev' TO VERSION '{second}'");
        rows(&session, &sql).await.unwrap();
        assert_eq!(repository.count("#branch=dev").await, 160, "{name}");
    }
}

#[tokio::test]
async fn what_a_writer_left_is_removed_when_it_is_old() {
    for (name, _) in REPOSITORIES {
        let repository = Repository::copy(name);
        let session = session();
        // A chunk that nobody has committed: one just now, who may still do it, and one the day before yesterday.
        let [young, old] = ["00000000000000000001", "00000000000000000002"]
            .map(|id| repository.path.join("chunks").join(id));
        std::fs::write(&young, b"young").unwrap();
        std::fs::write(&old, b"old").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
        for entry in std::fs::read_dir(repository.path.join("chunks")).unwrap() {
            let path = entry.unwrap().path();
            if path != young {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_modified(long_ago).unwrap();
            }
        }
        let expected = [json!(["chunks/00000000000000000002"])];
        let sql = format!("VACUUM '{repository}' DRY RUN");
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        let sql = format!("VACUUM '{repository}'");
        assert_eq!(rows(&session, &sql).await.unwrap(), expected, "{name}");
        assert!(young.exists() && !old.exists());
        for (version, cells) in [("", 160), ("#branch=dev", 120), ("#tag=v1", 120)] {
            let sql = format!("SELECT count(tas) FROM '{repository}{version}'");
            assert_eq!(
                row(&session, &sql).await.unwrap(),
                [json!(cells)],
                "{name}{version}"
            );
        }
    }
}

#[tokio::test]
async fn an_append_after_that_of_another_program_is_a_conflict_that_changes_nothing() {
    let repository = Repository::copy(REPOSITORIES[0].0);
    let mut late = repository.begin().await;
    late.resize("", "time", 9).unwrap();
    late.write(slice(8, 0.0)).await.unwrap();
    // Another program, which knows nothing of our lock, is faster.
    repository.append(&session(), "", 8, 1).await;
    let objects = repository.objects();
    assert_eq!(commit(late).await, Committed::Conflict);
    let sql = format!("SELECT count(*), sum(tas) FROM '{repository}'");
    let expected = [json!(180), json!(16_110.0)];
    assert_eq!(row(&session(), &sql).await.unwrap(), expected);
    assert!(
        repository.objects().len() < objects.len(),
        "chunks were left"
    );
}

#[tokio::test]
async fn a_change_of_other_chunks_goes_on_top_of_that_of_another_program() {
    let repository = Repository::copy(REPOSITORIES[0].0);
    let mut late = repository.begin().await;
    // The four slices of the second row of chunks, all cells.
    let mut region = slice(4, 0.0);
    region.shape[0] = 4;
    region.cells = vec![0; 4 * 20 * 4];
    region.old = OldCells::Changed;
    late.write(region).await.unwrap();
    let sql = format!(
        "REPLACE INTO '{repository}' SELECT time, lat, lon, tas + 1 FROM '{repository}' WHERE time < '2000-01-05'"
    );
    row(&session(), &sql).await.unwrap();
    assert_eq!(commit(late).await, Committed::Done);
    let sql = format!("SELECT tas FROM '{repository}' ORDER BY time, lat, lon");
    let expected: Vec<Value> = (0..160)
        .map(|k| json!([if k < 80 { f64::from(k + 1) } else { 0.0 }]))
        .collect();
    assert_eq!(rows(&session(), &sql).await.unwrap(), expected);
}

#[tokio::test]
async fn a_change_goes_not_on_top_of_one_of_the_coordinates_that_it_relied_on() {
    let repository = Repository::copy(REPOSITORIES[0].0);
    let mut late = repository.begin().await;
    let mut region = slice(4, 0.0);
    region.shape[0] = 4;
    region.cells = vec![0; 4 * 20 * 4];
    region.old = OldCells::Changed;
    late.write(region).await.unwrap();
    let mut other = repository.begin().await;
    let times = (0..8i64).flat_map(|day| (day + 100).to_le_bytes());
    let region = Region {
        variable: "time".to_owned(),
        start: vec![0],
        shape: vec![8],
        cells: times.collect(),
        old: OldCells::Changed,
    };
    other.write(region).await.unwrap();
    assert_eq!(commit(other).await, Committed::Done);
    assert_eq!(commit(late).await, Committed::Conflict);
    let sql = format!("SELECT min(time), sum(tas) FROM '{repository}'");
    let expected = [json!("2000-04-11T00:00:00"), json!(12_720.0)];
    assert_eq!(row(&session(), &sql).await.unwrap(), expected);
}

#[tokio::test]
async fn rows_become_a_repository() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("new.icechunk");
    let (session, path) = (session(), path.to_str().unwrap());
    let source = little(REPOSITORIES[0].0);
    let sql = format!(
        "COPY (SELECT * FROM '{source}' WHERE lat > 0) TO '{path}' OPTIONS (chunks '3,2,5')"
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(80)]);
    let sql = format!("SELECT tas FROM '{path}' ORDER BY time, lat, lon");
    let expected: Vec<Value> = (0..160)
        .filter(|k| k / 5 % 4 >= 2)
        .map(|k| json!([f64::from(k)]))
        .collect();
    assert_eq!(rows(&session, &sql).await.unwrap(), expected);
    let sql = format!("SELECT message, branches FROM array_versions('{path}')");
    let expected = [
        json!(["copy", "main"]),
        json!(["Repository initialized", ""]),
    ];
    assert_eq!(rows(&session, &sql).await.unwrap(), expected);
    // It grows like any other; and what is there is not made anew.
    let sql = format!(
        "INSERT INTO '{path}' SELECT time + INTERVAL '8 days', lat, lon, tas + 160 FROM '{path}'"
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(80)]);
    let refused = error(
        &session,
        &format!("COPY (SELECT * FROM '{source}') TO '{path}'"),
    )
    .await;
    assert!(refused.contains("exists already"), "{refused}");
    let refused = format!(
        "COPY (SELECT * FROM '{source}') TO '{path}2' STORED AS ICECHUNK OPTIONS (zarr_format 2)"
    );
    let refused = error(&session, &refused).await;
    assert!(
        refused.contains("is for Zarr, not for icechunk"),
        "{refused}"
    );
    let sql = format!("SELECT count(*), sum(tas) FROM '{path}'");
    // Of 0 to 319, the ten that are north in each of 16 slices: 145 + 200 times its number.
    let expected = [json!(160), json!(26_320.0)];
    assert_eq!(row(&session, &sql).await.unwrap(), expected);
}

#[tokio::test]
async fn a_repository_that_is_damaged_is_an_error() {
    let repository = Repository::copy(REPOSITORIES[0].0);
    let sql = format!("SELECT sum(tas) FROM '{repository}'");
    let (mut tried, mut refused) = (0, 0);
    for directory in ["", "snapshots", "manifests"] {
        for entry in std::fs::read_dir(repository.path.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let whole = std::fs::read(&path).unwrap();
            let cut = (0..whole.len())
                .step_by(whole.len() / 8)
                .map(|at| whole[..at].to_vec());
            let flipped = (0..whole.len()).step_by(whole.len() / 24).map(|at| {
                let mut bytes = whole.clone();
                bytes[at] ^= 0xff;
                bytes
            });
            for bytes in cut.chain(flipped) {
                std::fs::write(&path, bytes).unwrap();
                tried += 1;
                // What is not looked at, or says nothing, may be anything.
                match row(&session(), &sql).await {
                    Ok(sum) => assert_eq!(sum, [json!(12_720.0)], "{}", path.display()),
                    Err(_) => refused += 1,
                }
            }
            std::fs::write(&path, whole).unwrap();
        }
    }
    assert!(tried > 200 && refused * 4 > tried, "{refused} of {tried}");
}

/// A copy of a repository.
struct Repository {
    _place: tempfile::TempDir,
    path: PathBuf,
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl Repository {
    fn copy(name: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cube.icechunk");
        copy_folder(little(name).as_ref(), &path);
        Self {
            _place: place,
            path,
        }
    }

    /// Appends slices to a version: up to six, like those of `v1`.
    async fn append(&self, session: &Session, version: &str, first: u32, count: u32) {
        let sql = format!(
            "INSERT INTO '{self}{version}' (time, lat, lon, tas) SELECT time + INTERVAL '{first} days', lat, lon, \
             tas + {} FROM '{self}#tag=v1' WHERE time < TIMESTAMP '2000-01-{:02}'",
            first * 20,
            count + 1
        );
        assert_eq!(row(session, &sql).await.unwrap(), [json!(count * 20)]);
    }

    /// The rows of a version.
    async fn count(&self, version: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM '{self}{version}'");
        row(&session(), &sql).await.unwrap()[0].as_u64().unwrap()
    }

    /// A change of `main` by a writer who knows nothing of our lock.
    async fn begin(&self) -> Box<dyn Appender> {
        let store = Store::open(self.path.to_str().unwrap()).unwrap();
        Versions::begin(&Icechunk, &store, "main", Durability::Full)
            .await
            .unwrap()
    }

    /// The chunks that are objects.
    fn objects(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path.join("chunks")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

async fn commit(mut change: Box<dyn Appender>) -> Committed {
    let commit = change.publication().await.unwrap().commit.unwrap();
    commit.commit("late").await.unwrap()
}

/// A slice of `tas` that is `value` everywhere.
fn slice(at: u64, value: f32) -> Region {
    Region {
        variable: "tas".to_owned(),
        start: vec![at, 0, 0],
        shape: vec![1, 4, 5],
        cells: [value; 20]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        old: OldCells::Kept,
    }
}
