//! Reductions as requests: plain data that is sent, reduced where the chunks are, and whose answers add up.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt64Type};
use hyperslab::array::hyperslab::{IndexSet, Selection};
use hyperslab::catalog::Opened;
use hyperslab::cf::decode::{DecodeOptions, Decoding};
use hyperslab::read::reduce::labels::{Component, Labels, NONE};
use hyperslab::read::reduce::{Aggregate, Argument, Partial, Reduction, Weights, reduce};
use hyperslab::read::{Buffers, ReadPlan};
use serde_json::{Value, json};

use crate::common::{alike, little, project, session};

/// What is asked of each group.
const AGGREGATES: [Aggregate; 5] = [
    Aggregate::Count,
    Aggregate::Sum(Argument::Exact),
    Aggregate::Mean(Argument::VALUE),
    Aggregate::Min,
    Aggregate::Max,
];

async fn dataset(file: &str) -> Arc<Opened> {
    session().open(&little(file)).await.unwrap()
}

/// A request about the groups of equal `x` of the variable `gap`.
async fn request(opened: &Opened, selection: Selection) -> Reduction {
    let gap = opened.dataset.root.variables.iter();
    let gap = gap.clone().find(|variable| variable.name == "gap").unwrap();
    let options = DecodeOptions {
        decode: true,
        nan_as_null: true,
        default_fill: false,
    };
    Reduction {
        plan: ReadPlan::new(gap, selection.clone()).await.unwrap(),
        decoding: Decoding::new(gap, &options).unwrap(),
        labels: Labels {
            components: vec![Component {
                axes: vec![2],
                labels: selection.dims[2]
                    .iter()
                    .map(|x| u32::try_from(x).unwrap())
                    .collect(),
                groups: 9,
            }],
        },
        interval: None,
        weights: Vec::new(),
        aggregates: AGGREGATES.to_vec(),
    }
}

/// The answer to a request that has travelled.
async fn answer(opened: &Opened, request: &Value) -> Result<Partial, String> {
    let received: Reduction =
        serde_json::from_value(request.clone()).map_err(|error| error.to_string())?;
    let mut buffers = Buffers::default();
    reduce(&opened.store, &Arc::new(received), &mut buffers)
        .await
        .map_err(|error| error.to_string())
}

/// The rows that NumPy gives for a statement.
fn expected(start: &str) -> Value {
    let text = std::fs::read_to_string(project("tests/data/reductions.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let statements = expected["sets"][0]["statements"].as_array().unwrap();
    let mut found = statements
        .iter()
        .filter(|statement| statement["sql"].as_str().unwrap().starts_with(start));
    found.next().unwrap()["rows"].clone()
}

/// The states as rows: group, count, sum, mean, least, greatest.
fn rows(partial: &Partial) -> Value {
    let [count, sum, mean, min, max] = partial.states.as_slice() else {
        panic!("{} states", partial.states.len());
    };
    let groups = (0..partial.rows.len()).map(|group| {
        let total = mean[1].as_primitive::<Float64Type>().value(group);
        let cells = mean[0].as_primitive::<UInt64Type>().value(group);
        json!([
            group,
            count[0].as_primitive::<Int64Type>().value(group),
            sum[0].as_primitive::<Int64Type>().value(group),
            total / cells as f64,
            min[0].as_primitive::<Int32Type>().value(group),
            max[0].as_primitive::<Int32Type>().value(group),
        ])
    });
    Value::Array(groups.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_has_travelled_gives_the_states_of_numpy() {
    let want = expected("SELECT x, count(gap)");
    for file in [
        "reductions.nc",
        "reductions_latest.h5",
        "reductions.zarr",
        "reductions.b2d",
    ] {
        let opened = dataset(file).await;
        let request = request(&opened, Selection::all(&[10, 8, 9])).await;
        let sent = serde_json::to_value(&request).unwrap();
        let received: Reduction = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(received, request);
        let partial = answer(&opened, &sent).await.unwrap();
        assert_eq!(partial.rows, [80; 9]);
        assert!(alike(&rows(&partial), &want, 1e-12), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_to_halves_add_up() {
    let opened = dataset("reductions.nc").await;
    let halves = [IndexSet::range(0..6), IndexSet::range(6..10)];
    let mut answers = Vec::new();
    for half in halves {
        let selection = Selection {
            dims: vec![half, IndexSet::all(8), IndexSet::all(9)],
        };
        let sent = serde_json::to_value(request(&opened, selection).await).unwrap();
        answers.push(answer(&opened, &sent).await.unwrap());
    }
    let [first, second] = answers.as_slice() else {
        panic!("two halves")
    };
    let number = |array: &ArrayRef, group: usize| {
        let array = cast(array, &DataType::Int64);
        array.unwrap().as_primitive::<Int64Type>().value(group)
    };
    let merged = (0..9).map(|group| {
        let of = |at: usize| {
            let both = [first, second].map(|part| number(&part.states[at][0], group));
            (both[0], both[1])
        };
        let add = |(a, b): (i64, i64)| a + b;
        let (low, high) = (of(3), of(4));
        let sum = add(of(1));
        let count = add(of(0));
        let mean = sum as f64 / count as f64;
        json!([
            group,
            count,
            sum,
            mean,
            low.0.min(low.1),
            high.0.max(high.1)
        ])
    });
    let want = expected("SELECT x, count(gap)");
    assert!(alike(&Value::Array(merged.collect()), &want, 1e-12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_without_cells_have_no_values() {
    let opened = dataset("reductions.nc").await;
    let mut request = request(&opened, Selection::all(&[10, 8, 9])).await;
    request.labels.components[0].labels = vec![0, 0, NONE, NONE, 2, 2, 2, 0, 0].into();
    let sent = serde_json::to_value(&request).unwrap();
    let partial = answer(&opened, &sent).await.unwrap();
    assert_eq!(partial.rows[..4], [320, 0, 240, 0]);
    for state in partial.states.iter().skip(1).flatten() {
        assert!(state.is_null(1) && state.is_valid(0), "{state:?}");
    }
    assert_eq!(partial.states[0][0].as_primitive::<Int64Type>().value(1), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_errors() {
    let opened = dataset("reductions.nc").await;
    let mut good = request(&opened, Selection::all(&[10, 8, 9])).await;
    good.weights.push(Weights {
        axes: vec![1],
        values: vec![1.0; 8].into(),
    });
    good.aggregates.push(Aggregate::Sum(Argument::Weighted(0)));
    let good = serde_json::to_value(&good).unwrap();
    answer(&opened, &good).await.unwrap();
    let other = opened.dataset.root.variables.iter();
    let other = other
        .clone()
        .find(|variable| variable.name == "f4")
        .unwrap();
    let options = DecodeOptions {
        decode: true,
        nan_as_null: true,
        default_fill: false,
    };
    let floats = serde_json::to_value(Decoding::new(other, &options).unwrap()).unwrap();
    let address = good["plan"]["chunks"][0][1].clone();
    let changes: Vec<(&str, &str, Value)> = vec![
        (
            "labels that are too few",
            "/labels/components/0/labels",
            json!([0, 1, 2]),
        ),
        (
            "labels that are too large",
            "/labels/components/0/groups",
            json!(8),
        ),
        (
            "labels of an axis that is not there",
            "/labels/components/0/axes",
            json!([3]),
        ),
        (
            "labels of an axis twice",
            "/labels/components/0/axes",
            json!([2, 2]),
        ),
        (
            "two components on an axis",
            "/labels/components",
            json!([
                good["labels"]["components"][0],
                good["labels"]["components"][0]
            ]),
        ),
        (
            "weights that are too few",
            "/weights/0/values",
            json!([1.0]),
        ),
        (
            "weights of an axis that is not there",
            "/weights/0/axes",
            json!([7]),
        ),
        (
            "weights of axes out of order",
            "/weights/0/axes",
            json!([1, 0]),
        ),
        ("weights that are not there", "/weights", json!([])),
        (
            "a chunk that is not there",
            "/plan/chunks/0/0",
            json!(1_000_000),
        ),
        (
            "a selection of two dimensions",
            "/plan/selection/dims/2",
            Value::Null,
        ),
        (
            "a selection beyond the array",
            "/plan/selection/dims/2/runs/0",
            json!({"start": 2, "end": 11}),
        ),
        (
            "a selection that runs backwards",
            "/plan/selection/dims/0/runs/0",
            json!({"start": 5, "end": 2}),
        ),
        (
            "chunks without extent",
            "/plan/layout/grid/chunk",
            json!([0, 3, 5]),
        ),
        (
            "chunks of another shape",
            "/plan/layout/grid/chunk",
            json!([9, 9, 9]),
        ),
        (
            "elements of another type",
            "/plan/layout/element",
            json!("Float64"),
        ),
        ("a decoding of another type", "/decoding", floats),
        (
            "an aggregate that is not there",
            "/aggregates/0",
            json!("Mode"),
        ),
        (
            "a chunk beyond the end of the file",
            "/plan/chunks/0/1",
            json!({"Range": {"object": "", "offset": u64::MAX - 3, "length": 100, "skipped": 0}}),
        ),
        (
            "a chunk of nothing",
            "/plan/chunks/0/1",
            json!({"Range": {"object": "", "offset": 0, "length": 0, "skipped": 0}}),
        ),
        (
            "a chunk in another file",
            "/plan/chunks/0/1",
            json!({"Range": {"object": "../little.nc", "offset": 0, "length": 100, "skipped": 0}}),
        ),
    ];
    assert!(address.get("Range").is_some(), "{address}");
    for (what, place, value) in changes {
        let mut bad = good.clone();
        let at = bad
            .pointer_mut(place)
            .unwrap_or_else(|| panic!("no {place}"));
        if value.is_null() {
            bad["plan"]["selection"]["dims"]
                .as_array_mut()
                .unwrap()
                .pop();
        } else {
            *at = value;
        }
        let answered = answer(&opened, &bad).await;
        assert!(answered.is_err(), "{what}: {answered:?}");
    }
}
