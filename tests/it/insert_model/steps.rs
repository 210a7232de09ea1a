//! Random statements about a cube, each with what it has to make of it.

use std::ops::Range;

use super::model::{CELLS, Cell, Change, Slice, place};
use crate::grids::Random;
use crate::insert::day;

/// A statement that changes a cube, or must not.
#[derive(Debug)]
pub struct Statement {
    pub sql: String,
    /// What the cube holds afterwards, and how many rows are inserted; or a part of the error.
    pub expected: Result<(Change, usize), &'static str>,
}

/// What is done about slices that are there already.
#[derive(Clone, Copy, PartialEq)]
enum Existing {
    Error,
    Skip,
    Set,
    Replace,
}

/// Rows on their way: their day, cell, and values.
type Row = (u32, usize, Cell);

/// Rows that have a place.
pub fn insert(random: &mut Random, location: &str, now: &[Slice]) -> Statement {
    let existing = match random.below(8) {
        0 => Existing::Skip,
        1 => Existing::Set,
        2 | 3 => Existing::Replace,
        _ => Existing::Error,
    };
    let fills = random.once_in(4);
    let has_pr = !(fills && random.once_in(3));
    let mut slices = now.to_vec();
    let mut rows = Vec::new();
    let (mut rewrites, mut skipped) = (false, 0);
    if existing != Existing::Error {
        for _ in 0..1 + random.below(3) {
            let at = random.below(now.len());
            let slice = &mut slices[at];
            if rows.iter().any(|(day, ..): &Row| *day == slice.day) {
                continue;
            }
            for cell in some_cells(random) {
                let (tas, pr) = values(random);
                rows.push((slice.day, cell, (tas, pr)));
                if existing == Existing::Skip {
                    skipped += 1;
                    continue;
                }
                rewrites = true;
                slice.cells[cell].0 = tas;
                if has_pr {
                    slice.cells[cell].1 = pr;
                }
            }
        }
    }
    let least = usize::from(existing == Existing::Error);
    let most = if random.once_in(5) { 9 } else { 3 };
    for _ in 0..least + random.below(most) {
        let last = slices.last().map_or(0, |slice| slice.day + 1);
        let gap = if random.once_in(4) {
            1 + random.next() % 400
        } else {
            0
        };
        let mut slice = Slice {
            day: last + u32::try_from(gap).unwrap(),
            cells: vec![(None, None); CELLS],
        };
        let cells = match fills {
            true => some_cells(random),
            false => 0..CELLS,
        };
        for cell in cells {
            let (tas, pr) = values(random);
            rows.push((slice.day, cell, (tas, pr)));
            slice.cells[cell] = (tas, if has_pr { pr } else { None });
        }
        slices.push(slice);
    }
    let operation = match existing {
        Existing::Set | Existing::Replace => "replace",
        Existing::Error | Existing::Skip => "append",
    };
    let change = Change {
        slices,
        rewrites,
        operation: operation.to_owned(),
    };
    let count = rows.len() - skipped;
    Statement {
        sql: sql(random, location, rows, existing, fills, has_pr),
        expected: Ok((change, count)),
    }
}

/// Rows among which one has no place, or has one twice, or leaves one out.
pub fn wrong(random: &mut Random, location: &str, now: &[Slice]) -> Statement {
    let existing = match random.below(3) {
        0 => Existing::Replace,
        _ => Existing::Error,
    };
    let mut rows: Vec<Row> = Vec::new();
    if existing == Existing::Replace {
        let day = now[random.below(now.len())].day;
        rows.extend(some_cells(random).map(|cell| (day, cell, values(random))));
    }
    let last = now.last().map_or(0, |slice| slice.day);
    for day in last + 1..=last + 1 + u32::try_from(random.below(6)).unwrap() {
        rows.extend((0..CELLS).map(|cell| (day, cell, values(random))));
    }
    let new = rows.len() - 1 - random.below(CELLS);
    let says = match random.below(6) {
        0 => {
            let (day, cell, _) = rows[new];
            rows.push((day, cell, values(random)));
            "two rows are for one cell"
        }
        1 => {
            rows.remove(new);
            "has rows for 19 of 20 cells"
        }
        2 if existing == Existing::Error => {
            rows.push((now[random.below(now.len())].day, 3, values(random)));
            "is there already"
        }
        3 => {
            rows[new].2.1 = Some(100_000.5);
            "pr"
        }
        4 => {
            // Stored, this is -9999, which stands for what is missing.
            rows[new].2.1 = Some(-4998.5);
            "pr"
        }
        _ => {
            let sql = sql(random, location, rows, existing, false, true);
            let (before, last) = sql.rsplit_once("(TIMESTAMP '20").unwrap();
            let (time, rest) = last.split_once("', ").unwrap();
            let (_, rest) = rest.split_once(',').unwrap();
            let (century, lat, says) = match random.below(3) {
                0 => ("20", ", 21.0", "21.0 is not one of the values of lat"),
                1 => ("20", ", NULL", "null values"),
                _ => ("19", ", -20.0", "does not come after"),
            };
            return Statement {
                sql: format!("{before}(TIMESTAMP '{century}{time}'{lat},{rest}"),
                expected: Err(says),
            };
        }
    };
    Statement {
        sql: sql(random, location, rows, existing, false, true),
        expected: Err(says),
    }
}

/// Some cells of a slice, at least one.
fn some_cells(random: &mut Random) -> Range<usize> {
    let first = random.below(CELLS);
    let end = first + 1 + random.below(CELLS - first);
    first..end
}

fn values(random: &mut Random) -> Cell {
    let mut number = |range: u32, by: f64| {
        let n = u32::try_from(random.next() % u64::from(range)).unwrap();
        (!random.once_in(10)).then_some((f64::from(n) - f64::from(range) / 2.0) * by)
    };
    let (tas, pr) = (number(1 << 20, 0.25), number(40_000, 0.5));
    (tas, pr.filter(|pr| *pr != -4998.5))
}

/// The statement that inserts rows, in any order.
fn sql(
    random: &mut Random,
    location: &str,
    mut rows: Vec<Row>,
    existing: Existing,
    fills: bool,
    has_pr: bool,
) -> String {
    if !random.once_in(3) {
        for at in (1..rows.len()).rev() {
            rows.swap(at, random.below(at + 1));
        }
    }
    let number = |value: Option<f64>| value.map_or("NULL".to_owned(), |value| format!("{value:?}"));
    let rows = rows.into_iter().map(|(at, cell, (tas, pr))| {
        let (lat, lon, _) = place(cell);
        let pr = if has_pr {
            format!(", {}", number(pr))
        } else {
            String::new()
        };
        let time = day(at);
        format!(
            "(TIMESTAMP '{time}', {lat:?}, {lon:?}, {}{pr})",
            number(tas)
        )
    });
    let rows: Vec<String> = rows.collect();
    let (verb, existing) = match existing {
        Existing::Error => ("INSERT", "error"),
        Existing::Skip => ("INSERT", "skip"),
        Existing::Set => ("INSERT", "replace"),
        Existing::Replace => ("REPLACE", "error"),
    };
    let missing = if fills { "fill" } else { "error" };
    let columns = if has_pr {
        "time, lat, lon, tas, pr"
    } else {
        "time, lat, lon, tas"
    };
    format!(
        "SET hyperslab.insert_existing = '{existing}'; SET hyperslab.insert_missing = '{missing}'; \
         {verb} INTO '{location}' ({columns}) VALUES {}",
        rows.join(", ")
    )
}
