//! What aggregates promise of missing, packed and oddly stored values, in every format and every tier. The answers are
//! NumPy's (`tests/data/make_reductions.py`).

use serde_json::Value;

use super::with;
use crate::common::{alike, little, project, rows};

/// Ways of computing an aggregate.
const WAYS: [&[&str]; 4] = [
    &[],
    &["hyperslab.reduce_mode = partial"],
    &["hyperslab.reduce_dense = false"],
    &["hyperslab.reduce_mode = off"],
];

/// Runs the statements that were made for a promise.
async fn promise(name: &str) {
    let text = std::fs::read_to_string(project("tests/data/reductions.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let mut statements = 0;
    for set in expected["sets"].as_array().unwrap() {
        let settings: Vec<&str> = strings(&set["settings"]);
        let made = set["statements"].as_array().unwrap();
        let made: Vec<&Value> = made.iter().filter(|s| s["name"] == name).collect();
        if made.is_empty() {
            continue;
        }
        for way in WAYS {
            let session = with(&[settings.as_slice(), way].concat()).await;
            for file in strings(&set["files"]) {
                for statement in &made {
                    let sql = statement["sql"].as_str().unwrap();
                    let sql = sql.replace("{file}", &little(file));
                    statements += 1;
                    let got = match rows(&session, &sql).await {
                        Ok(got) => Value::Array(got),
                        Err(error) => Value::String(hyperslab::session::sentence(&error)),
                    };
                    if !alike(&got, &statement["rows"], 1e-9) {
                        wrong.push(format!(
                            "{way:?} {sql}\n  got  {got}\n  want {}",
                            statement["rows"]
                        ));
                    }
                }
            }
        }
    }
    assert!(statements > 0, "nothing is promised of: {name}");
    assert!(
        wrong.is_empty(),
        "{name}: {} of {statements} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn strings(of: &Value) -> Vec<&str> {
    let of = of.as_array().unwrap().iter();
    of.map(|text| text.as_str().unwrap()).collect()
}

macro_rules! promises {
    ($($name:ident: $text:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                promise($text).await;
            }
        )*

        #[test]
        fn every_statement_belongs_to_a_promise() {
            let text = std::fs::read_to_string(project("tests/data/reductions.json")).unwrap();
            let expected: Value = serde_json::from_str(&text).unwrap();
            for set in expected["sets"].as_array().unwrap() {
                for statement in set["statements"].as_array().unwrap() {
                    let name = statement["name"].as_str().unwrap();
                    assert!([$($text),*].contains(&name), "{name} has no test");
                }
            }
        }
    };
}

promises! {
    the_mean_of_a_corner: "the mean of a corner reads the chunks of the corner",
    sums_of_small_integers_do_not_wrap: "sums of small integers do not wrap",
    sums_of_integers_of_64_bits_are_exact: "sums of integers of 64 bits are exact",
    single_precision_is_added_in_double: "numbers of single precision are added in double precision",
    any_axes_can_be_kept: "any axes can be kept",
    an_index_may_drop_an_axis: "an index may drop an axis",
    indices_may_be_strides_lists_masks_or_nothing: "indices may be strides, lists, masks or nothing",
    the_parts_of_a_mean_come_in_one_statement: "the parts of a mean come in one statement",
    what_is_all_missing_has_no_mean: "what is all missing has no mean",
    every_rule_for_missing_values_counts: "every rule for missing values counts",
    each_of_several_missing_values_is_missing: "each of several missing values is missing",
    zero_may_be_the_fill_value: "zero may be the fill value",
    nan_is_missing: "NaN is missing",
    chunks_that_were_never_written_are_missing: "chunks that were never written are missing",
    chunks_that_were_never_written_hold_the_fill_value: "chunks that were never written hold the fill value",
    packed_values_are_unpacked: "packed values are unpacked",
    packed_values_can_be_had_as_they_are: "packed values can be had as they are",
    a_median_needs_the_values_themselves: "a median needs the values themselves",
    counts_above_a_limit: "counts and extremes of values above a limit",
    every_filter_is_undone: "every filter is undone",
    either_byte_order_is_read: "either byte order is read",
    what_is_not_in_chunks_is_one_chunk: "what is not in chunks is one chunk",
}
