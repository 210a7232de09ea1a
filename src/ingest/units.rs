//! Units of measurement: the few that climate data is given in, and how one becomes another.

/// What a unit is of a base unit: a value in it times `factor` plus `offset`.
struct Unit {
    names: &'static [&'static str],
    base: &'static str,
    factor: f64,
    offset: f64,
}

const fn unit(
    names: &'static [&'static str],
    base: &'static str,
    factor: f64,
    offset: f64,
) -> Unit {
    Unit {
        names,
        base,
        factor,
        offset,
    }
}

const UNITS: &[Unit] = &[
    unit(&["K", "kelvin", "degK", "degrees_kelvin"], "K", 1.0, 0.0),
    unit(
        &[
            "degC",
            "celsius",
            "Celsius",
            "degree_Celsius",
            "degrees_Celsius",
            "deg_C",
            "°C",
        ],
        "K",
        1.0,
        273.15,
    ),
    unit(
        &["degF", "fahrenheit", "degree_Fahrenheit", "°F"],
        "K",
        5.0 / 9.0,
        273.15 - 32.0 * 5.0 / 9.0,
    ),
    unit(&["Pa", "pascal", "N m-2", "kg m-1 s-2"], "Pa", 1.0, 0.0),
    unit(&["hPa", "mbar", "mb", "millibar"], "Pa", 100.0, 0.0),
    unit(&["kPa"], "Pa", 1000.0, 0.0),
    unit(&["bar"], "Pa", 1e5, 0.0),
    unit(&["m", "meter", "metre", "meters", "metres"], "m", 1.0, 0.0),
    unit(&["km"], "m", 1000.0, 0.0),
    unit(&["cm"], "m", 0.01, 0.0),
    unit(&["mm"], "m", 0.001, 0.0),
    unit(&["ft", "feet"], "m", 0.3048, 0.0),
    unit(&["m s-1", "m/s", "m s**-1"], "m s-1", 1.0, 0.0),
    unit(&["km h-1", "km/h", "km hr-1"], "m s-1", 1.0 / 3.6, 0.0),
    unit(&["knot", "knots", "kt"], "m s-1", 1852.0 / 3600.0, 0.0),
    unit(&["1", "", "fraction", "(0 - 1)"], "1", 1.0, 0.0),
    unit(&["%", "percent"], "1", 0.01, 0.0),
    unit(
        &["kg m-2 s-1", "kg m**-2 s**-1", "mm s-1", "mm/s"],
        "kg m-2 s-1",
        1.0,
        0.0,
    ),
    unit(
        &["mm day-1", "mm d-1", "mm/day", "kg m-2 day-1"],
        "kg m-2 s-1",
        1.0 / 86400.0,
        0.0,
    ),
    unit(
        &["mm h-1", "mm hr-1", "mm/h"],
        "kg m-2 s-1",
        1.0 / 3600.0,
        0.0,
    ),
    unit(&["kg kg-1", "kg/kg"], "kg kg-1", 1.0, 0.0),
    unit(&["g kg-1", "g/kg"], "kg kg-1", 0.001, 0.0),
    unit(&["s", "second", "seconds"], "s", 1.0, 0.0),
    unit(&["h", "hour", "hours"], "s", 3600.0, 0.0),
    unit(&["day", "days", "d"], "s", 86400.0, 0.0),
    unit(&["J m-2", "J m**-2"], "J m-2", 1.0, 0.0),
    unit(&["W h m-2"], "J m-2", 3600.0, 0.0),
];

/// Factor and summand that make values in `to` of values in `from`; `None` if they measure different things, or are not
/// known.
pub(super) fn conversion(from: &str, to: &str) -> Option<(f64, f64)> {
    let find = |name: &str| UNITS.iter().find(|unit| unit.names.contains(&name.trim()));
    let (from, to) = (find(from)?, find(to)?);
    (from.base == to.base).then(|| {
        (
            from.factor / to.factor,
            (from.offset - to.offset) / to.factor,
        )
    })
}

/// Whether two names mean the same unit.
pub(super) fn is_same(left: &str, right: &str) -> bool {
    left.trim() == right.trim() || conversion(left, right) == Some((1.0, 0.0))
}
