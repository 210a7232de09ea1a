//! What is committed with a change: objects that the log names.

use hyperslab::append::log::Log;
use hyperslab::append::{AppendOptions, Companion, OldCells, Outcome, Region, Target, Vacuum};
use hyperslab::array::Variable;
use hyperslab::catalog::format_called;
use hyperslab::error::Result;
use hyperslab::store::Store;
use serde_json::{Value, json};

use super::Cube;

/// Counts and sums what is written.
#[derive(Debug, Default)]
struct Sums(Vec<Value>);

impl Companion for Sums {
    fn name(&self) -> &str {
        "sums.json"
    }

    fn notice(&mut self, variable: &Variable, region: &Region) -> Result<()> {
        let cells = region.cells.as_chunks::<8>().0.iter();
        let cells: Vec<i64> = cells.map(|cell| i64::from_le_bytes(*cell)).collect();
        self.0.push(json!([
            variable.path,
            region.start,
            cells.len(),
            cells.iter().sum::<i64>()
        ]));
        Ok(())
    }

    fn say(&mut self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.0).unwrap())
    }
}

/// Writes two times (six days are there, in chunks of four), and ends as told.
async fn write(target: &Target, commits: bool) -> Option<Outcome> {
    let mut transaction = target.begin(AppendOptions::default()).await.unwrap();
    transaction.attach(Box::<Sums>::default()).unwrap();
    assert_eq!(transaction.piece("time").unwrap(), [4]);
    let region = Region {
        variable: "time".into(),
        start: vec![4],
        shape: vec![4],
        cells: [4i64, 5, 60, 61]
            .iter()
            .flat_map(|day| day.to_le_bytes())
            .collect(),
        old: OldCells::Kept,
    };
    transaction.write(region).await.unwrap();
    transaction.resize("", "time", 8).unwrap();
    if commits {
        return Some(transaction.commit("append").await.unwrap());
    }
    transaction.abandon().await.unwrap();
    None
}

#[tokio::test]
async fn what_companions_say_is_found_by_the_version_that_they_were_with() {
    let cube = Cube::new("v2");
    let store = Store::open(&cube.to_string()).unwrap();
    let target = Target::new(store.clone(), format_called("zarr").unwrap());
    let with = || async { store.list_all(".hyperslab/with").await.unwrap() };

    write(&target, false).await;
    assert_eq!(with().await, Vec::<String>::new());

    let outcome = write(&target, true).await;
    assert_eq!(outcome, Some(Outcome::Committed { version: Some(1) }));
    let log = Log::read(&store).await.unwrap();
    assert_eq!(log.0[0].companions, Vec::<String>::new());
    let [key] = log.0[1].companions.as_slice() else {
        panic!("{log:?}");
    };
    assert_eq!(with().await, std::slice::from_ref(key));
    let said = store.get(key).await.unwrap().unwrap();
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said, json!([["time", [4], 4, 130]]));

    // What a writer that died has left is nobody's.
    let orphan = ".hyperslab/with/orphan-sums.json";
    std::fs::write(format!("{cube}/{orphan}"), "[]").unwrap();
    let options = AppendOptions::default();
    let removed = target.vacuum(Vacuum::Removed, options).await.unwrap();
    assert_eq!(removed, [orphan]);
    assert_eq!(with().await, std::slice::from_ref(key));
}
