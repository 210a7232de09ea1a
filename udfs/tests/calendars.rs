//! The functions in SQL, on timestamps and on text dates.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

const TIMES: [Option<&str>; 4] = [
    Some("1999-12-31T18:05:09"),
    None,
    Some("2000-02-28T00:00:00.000001"),
    Some("2003-08-15T12:00:00"),
];
/// 30 February is in no other calendar.
const DAYS360: [Option<&str>; 4] = [
    Some("1999-12-30T18:05:09"),
    None,
    Some("2000-02-30T00:00:00.250000"),
    Some("2003-08-15T12:00:00"),
];
const ALL_LEAP: [Option<&str>; 4] = [
    Some("1999-12-31T18:05:09"),
    None,
    Some("2001-02-29T00:00:00"),
    Some("2003-08-15T12:00:00"),
];

#[test]
fn parts_are_the_same_in_every_calendar() {
    for (call, expected) in [
        ("year(t)", ["1999", "NULL", "2000", "2003"]),
        ("month(t)", ["12", "NULL", "2", "8"]),
        ("hour(t)", ["18", "NULL", "0", "12"]),
        ("minute(t)", ["5", "NULL", "0", "0"]),
        ("second(t)", ["9", "NULL", "0", "0"]),
        ("season(t)", ["DJF", "NULL", "DJF", "JJA"]),
        ("EXTRACT(YEAR FROM t)", ["1999", "NULL", "2000", "2003"]),
        ("date_part('month', t)", ["12", "NULL", "2", "8"]),
        ("datepart('months', t)", ["12", "NULL", "2", "8"]),
        ("EXTRACT(QUARTER FROM t)", ["4", "NULL", "1", "3"]),
        (
            "EXTRACT(month FROM date_trunc('quarter', t))",
            ["10", "NULL", "1", "7"],
        ),
        (
            "CAST(date_trunc('year', t) AS VARCHAR)",
            [
                "1999-01-01T00:00:00",
                "NULL",
                "2000-01-01T00:00:00",
                "2003-01-01T00:00:00",
            ],
        ),
        (
            "CAST(date_trunc('hour', t) AS VARCHAR)",
            [
                "1999-12-3xT18:00:00",
                "NULL",
                "2000-02-xxT00:00:00",
                "2003-08-15T12:00:00",
            ],
        ),
    ] {
        for table in ["gregorian", "days360"] {
            let rows = query(&format!("SELECT {call} FROM {table}")).unwrap();
            let expected = expected.map(|text| match (text, table) {
                ("1999-12-3xT18:00:00", "gregorian") => "1999-12-31T18:00:00",
                ("1999-12-3xT18:00:00", _) => "1999-12-30T18:00:00",
                ("2000-02-xxT00:00:00", "gregorian") => "2000-02-28T00:00:00",
                ("2000-02-xxT00:00:00", _) => "2000-02-30T00:00:00",
                (text, _) => text,
            });
            assert_eq!(rows, expected, "{call} of {table}");
        }
    }
}

#[test]
fn days_count_as_their_calendar_has_them() {
    for (table, days, of_year) in [
        (
            "gregorian",
            ["31", "NULL", "28", "15"],
            ["365", "NULL", "59", "227"],
        ),
        (
            "days360",
            ["30", "NULL", "30", "15"],
            ["360", "NULL", "60", "225"],
        ),
        (
            "all_leap",
            ["31", "NULL", "29", "15"],
            ["366", "NULL", "60", "228"],
        ),
    ] {
        assert_eq!(
            query(&format!("SELECT day(t) FROM {table}")).unwrap(),
            days,
            "{table}"
        );
        for call in ["dayofyear(t)", "EXTRACT(doy FROM t)"] {
            assert_eq!(
                query(&format!("SELECT {call} FROM {table}")).unwrap(),
                of_year,
                "{table}"
            );
        }
    }
}

#[test]
fn fractions_of_seconds_have_the_types_of_the_stock_function() {
    for (part, gregorian, days360) in [
        ("second", "0", "0"),
        ("millisecond", "0", "250"),
        ("microsecond", "1", "250000"),
        ("nanosecond", "1000", "250000000"),
    ] {
        for (table, expected) in [("gregorian", gregorian), ("days360", days360)] {
            let sql = format!("SELECT date_part('{part}', t) FROM {table} WHERE month(t) = 2");
            assert_eq!(query(&sql).unwrap(), [expected], "{part} of {table}");
            let sql = format!("SELECT arrow_typeof(date_part('{part}', t)) FROM {table} LIMIT 1");
            let expected = if part == "nanosecond" {
                "Int64"
            } else {
                "Int32"
            };
            assert_eq!(query(&sql).unwrap(), [expected], "{part} of {table}");
        }
    }
}

#[test]
fn groups_and_filters_take_both_kinds() {
    for table in ["gregorian", "days360", "all_leap"] {
        let sql = format!(
            "SELECT count(*) FROM {table} WHERE year(t) >= 1999 GROUP BY season(t) ORDER BY season(t)"
        );
        assert_eq!(query(&sql).unwrap(), ["2", "1"], "{table}");
        let sql = format!(
            "WITH x AS (SELECT date_trunc('month', t) AS m FROM {table})
             SELECT month(m) FROM x WHERE m IS NOT NULL ORDER BY m"
        );
        assert_eq!(query(&sql).unwrap(), ["12", "2", "8"], "{table}");
        let sql = format!("SELECT year(max(t)) FROM {table}");
        assert_eq!(query(&sql).unwrap(), ["2003"], "{table}");
        let sql = format!(
            "SELECT year(a.t) FROM {table} a JOIN {table} b ON a.t = b.t WHERE day(a.t) > 20 ORDER BY 1"
        );
        assert_eq!(query(&sql).unwrap().len(), 2, "{table}");
        let sql = format!(
            "SELECT day(t) FROM (SELECT t FROM {table} UNION ALL SELECT t FROM {table}) ORDER BY t LIMIT 1"
        );
        assert_eq!(query(&sql).unwrap().len(), 1, "{table}");
    }
}

#[test]
fn constants_are_dates_as_in_stock_datafusion() {
    for (call, expected) in [
        ("year('2024-05-01')", "2024"),
        ("season('2024-05-01')", "MAM"),
        ("month(TIMESTAMP '2024-05-01T10:00:00')", "5"),
        ("day(DATE '2024-05-31')", "31"),
        ("dayofyear('2024-03-01 00:00:00')", "61"),
        ("EXTRACT(hour FROM TIME '10:20:30')", "10"),
        ("hour(TIME '10:20:30')", "10"),
        ("EXTRACT(day FROM INTERVAL '3 days')", "3"),
        ("EXTRACT(dow FROM '2024-05-01')", "3"),
        ("date_part('epoch', '1970-01-02T00:00:00')", "86400.0"),
        (
            "date_trunc('month', '2024-05-15T10:30:00')",
            "2024-05-01T00:00:00",
        ),
        (
            "date_trunc('week', TIMESTAMP '2024-05-15T10:30:00')",
            "2024-05-13T00:00:00",
        ),
        ("year(NULL)", "NULL"),
        ("season(NULL)", "NULL"),
        ("date_trunc('month', NULL)", "NULL"),
        ("date_part('year', NULL)", "NULL"),
    ] {
        assert_eq!(
            query(&format!("SELECT {call}")).unwrap(),
            [expected],
            "{call}"
        );
    }
    assert_eq!(
        query("SELECT arrow_typeof(date_trunc('month', '2024-05-15'))").unwrap(),
        ["Timestamp(ns)"]
    );
}

#[test]
fn what_a_calendar_has_not_is_an_error_that_names_it() {
    for sql in [
        "SELECT EXTRACT(week FROM t) FROM days360",
        "SELECT EXTRACT(dow FROM t) FROM days360",
        "SELECT date_part('epoch', t) FROM days360",
        "SELECT date_trunc('week', t) FROM days360",
    ] {
        let error = query(sql).expect_err(sql).to_string();
        assert!(error.contains("360_day"), "{error}");
    }
    for sql in [
        "SELECT year(1.5)",
        "SELECT year(t, t) FROM gregorian",
        "SELECT year('no date')",
    ] {
        assert!(query(sql).is_err(), "{sql}");
    }
}

#[test]
fn a_year_becomes_a_range_of_time() {
    for call in [
        "year(t) = 2003",
        "EXTRACT(year FROM t) = 2003",
        "date_part('year', t) = 2003",
    ] {
        let plan = query(&format!("EXPLAIN SELECT t FROM gregorian WHERE {call}"))
            .unwrap()
            .join("\n");
        assert!(
            !plan.contains("date_part") && plan.contains(">="),
            "{call}: {plan}"
        );
        let rows = query(&format!("SELECT day(t) FROM gregorian WHERE {call}")).unwrap();
        assert_eq!(rows, ["15"], "{call}");
        let rows = query(&format!("SELECT day(t) FROM days360 WHERE {call}")).unwrap();
        assert_eq!(rows, ["15"], "{call}");
    }
}

#[test]
fn order_is_kept_by_years_and_truncation() {
    for call in ["year(t)", "date_trunc('month', t)"] {
        let sql = format!(
            "EXPLAIN SELECT {call}, count(*) FROM (SELECT t FROM gregorian ORDER BY t LIMIT 3) GROUP BY 1"
        );
        let plan = query(&sql).unwrap().join("\n");
        assert!(plan.contains("ordering_mode=Sorted"), "{plan}");
    }
}

#[test]
fn mean_is_another_name_of_avg() {
    let plan = query("EXPLAIN SELECT mean(x) FROM (VALUES (1.0), (2.0)) AS v(x)")
        .unwrap()
        .join("\n");
    assert!(plan.contains("avg("), "{plan}");
    assert_eq!(
        query("SELECT mean(x) FROM (VALUES (1.0), (2.0)) AS v(x)").unwrap(),
        ["1.5"]
    );
}

/// The values of the last column of the result.
fn query(sql: &str) -> Result<Vec<String>> {
    let context = session()?;
    let batches = block_on(async { context.sql(sql).await?.collect().await })?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let column = batch.columns().last().expect("a column");
        let column = ArrayFormatter::try_new(column, &options)?;
        rows.extend((0..batch.num_rows()).map(|row| column.value(row).to_string()));
    }
    Ok(rows)
}

fn session() -> Result<SessionContext> {
    let functions = hyperslab_udfs::all();
    let state = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_target_partitions(1))
        .with_default_features()
        .build();
    let mut context = SessionContext::new_with_state(state);
    for function in functions.scalar {
        context.register_udf(Arc::unwrap_or_clone(function));
    }
    for rewrite in functions.rewrites {
        context.register_function_rewrite(rewrite)?;
    }
    let micros = TIMES.iter().map(|time| {
        let time: chrono::NaiveDateTime = (*time)?.parse().ok()?;
        Some(time.and_utc().timestamp_micros())
    });
    let times: TimestampMicrosecondArray = micros.collect();
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    register(
        &context,
        "gregorian",
        timestamp,
        "standard",
        Arc::new(times),
    )?;
    let texts = |texts: &[Option<&str>]| Arc::new(texts.iter().copied().collect::<StringArray>());
    register(
        &context,
        "days360",
        DataType::Utf8,
        "360_day",
        texts(&DAYS360),
    )?;
    register(
        &context,
        "all_leap",
        DataType::Utf8,
        "366_day",
        texts(&ALL_LEAP),
    )?;
    Ok(context)
}

fn register(
    context: &SessionContext,
    table: &str,
    data_type: DataType,
    calendar: &str,
    times: ArrayRef,
) -> Result<()> {
    let metadata = HashMap::from([("calendar".to_owned(), calendar.to_owned())]);
    let field = Field::new("t", data_type, true).with_metadata(metadata);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![times])?;
    context.register_batch(table, batch)?;
    Ok(())
}

/// With one partition nothing is spawned, so nothing has to be waited for.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::yield_now();
    }
}
