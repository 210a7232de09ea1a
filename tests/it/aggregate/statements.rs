//! Random aggregates over a table `{t}` with the columns of a random grid.

use crate::grids::{NAMES, Random};

/// A statement whose rows come in one order, if they are compared as they come. With `nan`, NaN may be among the
/// values, and functions whose answer then depends on the order of rows are left out.
pub fn statement(random: &mut Random, dims: usize, nan: bool) -> String {
    let names = &NAMES[..dims];
    let keys = keys(random, names);
    let simple = random.once_in(2);
    let mut functions: Vec<String> = (0..1 + random.below(4))
        .map(|_| match simple {
            true => simple_function(random, names, nan),
            false => function(random, names, nan),
        })
        .collect();
    let terms: Vec<String> = (0..[0, 0, 1, 1, 2, 3][random.below(6)])
        .map(|_| predicate(random, names))
        .collect();
    let filter = if terms.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", terms.join(" AND "))
    };
    // Groups without functions are what DISTINCT makes.
    if !keys.is_empty() && random.once_in(14) {
        functions.clear();
    }
    let numbers: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
    let shown: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| format!("{key} AS k{at}"))
        .chain(functions)
        .collect();
    let shown = shown.join(", ");
    if keys.is_empty() {
        return format!("SELECT {shown} FROM {{t}}{filter}");
    }
    let group = numbers.join(", ");
    let having = match random.below(8) {
        0 => " HAVING count(*) > 2",
        1 => " HAVING count(a) > 0 AND sum(b) IS NOT NULL",
        _ => "",
    };
    let inner = format!("SELECT {shown} FROM {{t}}{filter} GROUP BY {group}{having}");
    match random.below(12) {
        0 => format!("SELECT count(*) FROM ({inner})"),
        1 => {
            let inner = inner.replace(
                &format!("GROUP BY {group}"),
                &format!("GROUP BY ROLLUP ({})", bare(&keys)),
            );
            format!("SELECT count(*) FROM ({inner})")
        }
        _ => format!("{inner} ORDER BY {group}"),
    }
}

fn bare(keys: &[String]) -> String {
    keys.join(", ")
}

/// A value of the whole grid: a variable, or something made of several.
fn argument(random: &mut Random, names: &[&str]) -> String {
    let of = random.pick(&["a", "a", "b"]);
    if names.is_empty() {
        return random
            .pick(&["a", "a + 1", "2 * a - 3", "-b", "a * b", "p", "a * p"])
            .into();
    }
    let dim = random.pick(names);
    match random.below(21) {
        0..=4 => of.into(),
        20 => format!("12 / {of}"),
        5 => format!("{of} + 1"),
        6 => format!("2 * {of} - 3"),
        7 => format!("-{of}"),
        8 => format!("CAST({of} AS DOUBLE)"),
        9 => format!("2.5 - CAST({of} AS DOUBLE) / 4"),
        10 => "a * b".into(),
        11 => format!("{of} * {dim}"),
        12 => format!("{of} * cos({dim})"),
        13 => format!("cos({dim}) * {of}"),
        14 => format!("{of} * {}", random.pick(&["p", "q"])),
        15 => format!("CAST({of} AS DOUBLE) * CAST(p AS DOUBLE)"),
        16 => random.pick(&["p", "q"]).into(),
        17 => dim.into(),
        18 => format!("{dim} * 2 + CAST(p AS DOUBLE)"),
        _ => format!("CASE WHEN {dim} > 1 THEN {of} END"),
    }
}

/// What is reduced without making rows.
fn simple_function(random: &mut Random, names: &[&str], nan: bool) -> String {
    let mut of = vec!["a", "a", "b", "p", "q", "CAST(a AS DOUBLE)"];
    of.extend(["2 * CAST(a AS DOUBLE) - 3", "1.5 - CAST(b AS DOUBLE)"]);
    of.extend(names);
    let of = random.pick(&of);
    match random.below(if nan { 9 } else { 13 }) {
        0 => "count(*)".into(),
        1 => format!("count({of})"),
        2 => format!("sum({of})"),
        3 | 4 => format!("avg({of})"),
        5 => format!("var({of})"),
        6 => format!(
            "{}({of})",
            random.pick(&["stddev", "stddev_pop", "var_pop"])
        ),
        7 | 8 if names.is_empty() => "avg(a)".into(),
        7 => format!("sum({} * {})", random.pick(&["a", "b"]), random.pick(names)),
        8 => format!(
            "avg(a * {}({}))",
            random.pick(&["cos", "abs"]),
            random.pick(names)
        ),
        9 | 10 => format!("min({of})"),
        _ => format!("max({of})"),
    }
}

fn function(random: &mut Random, names: &[&str], nan: bool) -> String {
    let of = argument(random, names);
    let call = match random.below(if nan { 10 } else { 22 }) {
        0 => "count(*)".into(),
        1 => format!("count({of})"),
        2 | 3 => format!("sum({of})"),
        4 | 5 => format!("avg({of})"),
        6 => format!("var({of})"),
        7 => format!(
            "{}({of})",
            random.pick(&["stddev", "stddev_pop", "var_pop"])
        ),
        8 => "count(1)".into(),
        9 => "count(DISTINCT a)".into(),
        10..=12 => format!("min({of})"),
        13..=15 => format!("max({of})"),
        16 => format!("median({of})"),
        17 => format!(
            "approx_distinct(CAST({} AS VARCHAR))",
            random.pick(&["a", "p"])
        ),
        18 => "bool_and(a > 0)".into(),
        19 if names.is_empty() => "bool_or(b > 1)".into(),
        19 => format!("corr({}, {})", random.pick(names), random.pick(names)),
        20 => format!("sum(DISTINCT {})", random.pick(&["a", "p"])),
        _ => format!("max({of}) - min({of})"),
    };
    let plain = call.ends_with(')') && !call.contains("DISTINCT") && !call.contains(" - min");
    if plain && random.once_in(10) {
        let filter = predicate(random, names);
        return format!("{call} FILTER (WHERE {filter})");
    }
    call
}

fn keys(random: &mut Random, names: &[&str]) -> Vec<String> {
    if names.is_empty() {
        return match random.below(4) {
            0 => vec!["a".into()],
            1 => vec!["'k'".into()],
            _ => Vec::new(),
        };
    }
    let dim = random.pick(names).to_owned();
    let other = random.pick(names).to_owned();
    match random.below(20) {
        0..=3 => Vec::new(),
        4 | 5 => vec![dim],
        6 if dim != other => vec![dim, other],
        6 => names.iter().map(|name| (*name).to_owned()).collect(),
        7 => vec![format!("floor({dim} / 2)")],
        8 => vec![format!("CAST({dim} AS INT) % 2")],
        9 => vec![format!("floor({dim} + {other})")],
        10 => vec![random.pick(&["p", "q"]).into()],
        11 => vec![format!("CASE WHEN {dim} > 1 THEN 'up' ELSE 'down' END")],
        12 => vec!["'k'".into()],
        13 => vec![dim.clone(), dim],
        14 => vec![format!("floor({dim} / 2)"), dim],
        15 => vec!["p".into(), dim],
        16 => vec![dim, format!("{other} > 2"), "q IS NULL".into()],
        17 => vec!["a".into()],
        18 => vec!["a > 1".into(), dim],
        _ => names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn predicate(random: &mut Random, names: &[&str]) -> String {
    let value = random.below(9) as f64 - 3.0;
    let op = random.pick(&["=", "<>", "<", "<=", ">", ">="]);
    let data = match random.below(8) {
        0 => format!("a {op} {value}"),
        1 => format!("a > {value}"),
        2 => format!("a BETWEEN {} AND {value}", value - 2.0),
        3 => "a > 1 AND a <= 3".into(),
        4 => random
            .pick(&["a <> 1", "a <> 0", "a <> 0 AND b <> 0"])
            .into(),
        5 => "a IS NULL".into(),
        6 => format!("b {op} {value}"),
        _ => format!("(a > b OR p {op} {value})"),
    };
    if names.is_empty() || random.once_in(3) {
        return data;
    }
    let dim = random.pick(names);
    let other = random.pick(names);
    match random.below(10) {
        0..=2 => format!("{dim} {op} {value}"),
        3 => format!("{dim} BETWEEN {value} AND {}", value + 4.0),
        4 => format!("({dim} > {value} OR {other} < 2)"),
        5 => format!("{dim} + {other} {op} {value}"),
        6 => format!("p {op} {value}"),
        7 => format!("(q IS NULL OR {dim} < {value})"),
        8 => format!("{dim} IN (0, 1, {value})"),
        _ => format!("CAST({dim} AS INT) % 3 = 0"),
    }
}
