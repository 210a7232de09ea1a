"""Writes the dataset `little` in every format, and expected.json: statements and the rows that they must give.

    python -m venv ref && ref/bin/pip install -r requirements.txt && ref/bin/python make.py

The expected rows are computed with NumPy and xarray from the arrays in memory, never read back from a file.
"""

import json
from pathlib import Path

import blosc2
import cftime
import numcodecs
import numpy as np
import xarray
import zarr

from writers import Data, Var, blosc2_directory, decode, hdf5, netcdf3_classic, netcdf3_data64, netcdf4, remove
from writers import zarr2, zarr3, zarr3_sharded

HERE = Path(__file__).parent
FILES = {
    "little.nc": netcdf4,
    "little_latest.h5": hdf5,
    "little_v2.zarr": zarr2,
    "little_v3.zarr": zarr3,
    "little_v3_sharded.zarr": zarr3_sharded,
    "little.b2d": blosc2_directory,
}
# What has no place for groups.
FLAT = {"little_classic.nc": netcdf3_classic, "little_cdf5.nc": netcdf3_data64}
UNITS, CALENDAR = "days since 2001-01-01", "noleap"


def little():
    """24 months of a small world, with all that CF asks of a reader."""
    random = np.random.default_rng(7)
    months = [cftime.DatetimeNoLeap(2003 + m // 12, m % 12 + 1, 15, 12) for m in range(24)]
    time = cftime.date2num(months, UNITS, CALENDAR)
    edges = [cftime.DatetimeNoLeap(2003 + m // 12, m % 12 + 1, 1) for m in range(25)]
    edges = cftime.date2num(edges, UNITS, CALENDAR).astype("f8")
    lat = np.arange(70.0, -71.0, -20.0)
    lon = np.arange(0.0, 360.0, 30.0)
    t, phi, lam = np.meshgrid(np.arange(24), np.radians(lat), np.radians(lon), indexing="ij")
    season = np.cos(2 * np.pi * (t - 6.5) / 12) * np.sin(phi)

    tas = 303 - 45 * np.sin(phi) ** 2 + 12 * season + 2 * np.cos(2 * lam) + random.normal(0, 1.5, t.shape)
    tas = np.round(tas * 8).astype("f4") / np.float32(8)
    tas_fill = np.float32(1e20)
    tas[random.random(tas.shape) < 0.03] = tas_fill
    tas[3, 2, 1] = tas[17, 6, 11] = np.nan

    pr = np.round((9.0 - np.maximum(0, 6 * np.cos(2 * phi) + season + random.normal(0, 1, t.shape))) / 0.005)
    pr = pr.astype("i2")
    pr_fill = np.int16(-32767)
    pr[random.random(pr.shape) < 0.02] = pr_fill

    gaps = np.round(random.normal(50, 10, t.shape)).astype("f4")
    area = 1e12 * np.cos(phi[0]) * (1 + 0.01 * np.arange(12))
    mask = np.where(random.random(area.shape) < 0.6, 0, 200).astype("u1").view("i1")
    wind = np.round(random.normal(8, 4, 24) * 4).astype("f4") / np.float32(4)
    wind[5], wind[9], wind[20] = np.nan, -3.0, 99.0
    names = np.array(["Alta", "Bergen", "Córdoba", "Dakar", "Lima", "Perth", "Ushuaia", "Южная"])

    y, x = np.meshgrid(np.arange(10.0), np.arange(11.0), indexing="ij")
    nav_lat = 50 + 2 * y + 0.5 * x
    nav_lon = -20 + 3 * x - 0.5 * y
    sst = np.round(15 - 0.6 * (nav_lat - 50) + random.normal(0, 0.5, y.shape), 2).astype("f4")
    sst_fill = np.float32(-999.0)
    sst[(x > 7) & (y < 4)] = sst_fill
    temp = np.round(20 - 3 * np.arange(5.0) + np.sin(np.arange(24.0))[:, None], 2)

    boxes = [np.s_[0:10, 0:5, 0:7], np.s_[20:24, 5:8, 7:12]]
    fill = np.float32(-9999.0)
    lz4 = {"codec": blosc2.Codec.LZ4, "filters": [blosc2.Filter.BITSHUFFLE]}
    cube = ("time", "lat", "lon")
    variables = {
        "time": Var(
            ("time",),
            time.astype("f8"),
            {"units": UNITS, "calendar": CALENDAR, "standard_name": "time", "axis": "T", "bounds": "time_bnds"},
            chunks=(24,),
            h5={"maxshape": (None,), "chunks": (10,)},
        ),
        "lat": Var(("lat",), lat, {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"}),
        "lon": Var(("lon",), lon, {"units": "degrees_east", "standard_name": "longitude", "axis": "X"}),
        "time_bnds": Var(("time", "bnds"), np.stack([edges[:-1], edges[1:]], 1), chunks=(24, 2)),
        "tas": Var(
            cube,
            tas,
            {"units": "K", "standard_name": "air_temperature", "long_name": "near-surface air temperature"},
            fill=tas_fill,
            chunks=(9, 5, 7),
            blocks=(4, 5, 3),
            shards=(18, 5, 14),
            h5={"maxshape": (None, 8, 12)},
        ),
        "pr": Var(
            cube,
            pr,
            {"units": "mm d-1", "long_name": "precipitation", "scale_factor": -0.005, "add_offset": 9.0},
            fill=pr_fill,
            chunks=(7, 8, 5),
            blocks=(2, 8, 2),
            nc={"fletcher32": True},
            h5={"maxshape": (None, None, 12), "fletcher32": True},
            zarr={
                2: {"compressors": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.BITSHUFFLE)},
                3: {"compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2)},
            },
            sparse=True,
            cparams=lz4,
        ),
        "gaps": Var(
            cube,
            gaps,
            {"units": "1", "long_name": "a field of which most chunks were never written"},
            fill=fill,
            chunks=(10, 5, 7),
            blocks=(5, 5, 7),
        ),
        "area": Var(("lat", "lon"), area.astype(">f8"), {"units": "m2", "standard_name": "cell_area"}),
        "mask": Var(("lat", "lon"), mask, {"_Unsigned": "true", "long_name": "land mask"}, chunks=(3, 12)),
        "height": Var((), np.array(2.0), {"units": "m", "standard_name": "height"}),
        "wind": Var(
            ("time",),
            wind,
            {"units": "m s-1", "valid_min": np.float32(0), "valid_max": np.float32(60)},
            chunks=(5,),
            h5={"maxshape": (None,)},
        ),
        "name": Var(("lat",), names, {"long_name": "a place at this latitude"}),
        "nav_lat": Var(("y", "x"), nav_lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "nav_lon": Var(("y", "x"), nav_lon, {"units": "degrees_east", "standard_name": "longitude"}),
        "sst": Var(
            ("y", "x"),
            sst,
            {"units": "degC", "coordinates": "nav_lon nav_lat"},
            fill=sst_fill,
            chunks=(4, 6),
            zarr={
                2: {"order": "F", "compressors": numcodecs.Zlib(6), "filters": numcodecs.Shuffle(4)},
                3: {"compressors": zarr.codecs.GzipCodec(), "filters": zarr.codecs.TransposeCodec(order=(1, 0))},
            },
        ),
        "ocean/depth": Var(("depth",), np.array([0.0, 10, 50, 100, 500]), {"units": "m", "positive": "down"}),
        "ocean/temp": Var(("time", "depth"), temp, {"units": "degC"}, chunks=(10, 3)),
    }
    variables["gaps"].boxes = boxes
    return Data(variables, {"Conventions": "CF-1.11", "title": "a little world", "history": "made for tests"}), months


class Answers:
    """Statements and their rows."""

    def __init__(self):
        self.statements = []

    def add(self, name, sql, rows):
        """`rows` is a list of rows; NaN stands for NULL."""
        rows = [[item(value) for value in row] for row in rows]
        self.statements.append({"name": name, "sql": sql, "rows": rows})


def item(value):
    """A value as JSON: instants as ISO text, missing ones as null."""
    if isinstance(value, cftime.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S")
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value


def stats(values):
    """count, sum, min, max of what is not missing."""
    present = values[~np.isnan(values)]
    if not present.size:
        return [0, None, None, None]
    return [int(present.size), present.sum(), present.min(), present.max()]


def expected(data, months):
    """The statements about `little`."""
    v = {name: decode(var) for name, var in data.variables.items()}
    lat, lon, tas, pr, gaps, area = (v[n] for n in ("lat", "lon", "tas", "pr", "gaps", "area"))
    month = np.array([m.month for m in months])
    year = np.array([m.year for m in months])
    cube = xarray.Dataset(
        {n: (("time", "lat", "lon"), v[n]) for n in ("tas", "pr", "gaps")}
        | {"area": (("lat", "lon"), area), "wind": ("time", v["wind"])},
        coords={"time": np.arange(24), "lat": lat, "lon": lon},
    )
    at = cube.tas.isel
    a = Answers()
    every = "count({0}), sum({0}), min({0}), max({0})"

    a.add("rows of the main table", "SELECT count(*) FROM '{file}'", [[tas.size]])
    a.add("rows do not depend on columns", "SELECT count(lat), count(time), count(1) FROM '{file}'", [[tas.size] * 3])
    for name in ("tas", "pr", "gaps"):
        a.add(f"statistics of {name}", f"SELECT {every.format(name)} FROM '{{file}}'", [stats(v[name])])
    for name in ("tas", "pr", "gaps", "area", "wind", "sst", "nav_lat", "nav_lon"):
        sql = f'SELECT {every.format(name)} FROM "{{file}}"."{name}"'
        a.add(f"statistics of {name} in its own table", sql, [stats(v[name])])
    a.add("missing values are NULL", "SELECT count(*) FROM '{file}' WHERE tas IS NULL", [[np.isnan(tas).sum()]])
    a.add("a scalar", 'SELECT height FROM "{file}"."height"', [[2.0]])
    a.add("a scalar in the main table", "SELECT count(*) FROM '{file}' WHERE height = 2", [[tas.size]])
    mask = v["mask"].astype(int)
    a.add(
        "unsigned bytes",
        'SELECT mask, count(*) FROM "{file}"."mask" GROUP BY mask ORDER BY mask',
        [[k, (mask == k).sum()] for k in (0, 200)],
    )
    names = data.variables["name"].data.tolist()
    a.add("text", 'SELECT lat, name FROM "{file}"."name" ORDER BY name', sorted(zip(lat, names), key=lambda r: r[1]))
    a.add("text selects", "SELECT count(tas), sum(tas) FROM '{file}' WHERE name = 'Dakar'", [stats(tas[:, 3])[:2]])

    box = at(lat=slice(2, 6), lon=slice(3, 8)).values
    where = "lat BETWEEN -30 AND 30 AND lon BETWEEN 90 AND 210"
    a.add("a box by coordinates", f"SELECT {every.format('tas')} FROM '{{file}}' WHERE {where}", [stats(box)])
    a.add(
        "a box by coordinates and time",
        f"SELECT {every.format('pr')} FROM '{{file}}' WHERE {where} "
        "AND time >= '2003-06-01' AND time < '2004-03-01'",
        [stats(pr[5:14, 2:6, 3:8])],
    )
    a.add("outside of a belt", f"SELECT {every.format('tas')} FROM '{{file}}' WHERE lat NOT BETWEEN -20 AND 40",
          [stats(tas[:, (lat < -20) | (lat > 40)])])
    a.add("one cell", "SELECT time, lat, lon, tas FROM '{file}' WHERE lat = 10 AND lon = 330 ORDER BY time LIMIT 3",
          [[months[k], 10.0, 330.0, tas[k, 3, 11]] for k in range(3)])
    a.add("two latitudes", "SELECT count(pr), sum(pr) FROM '{file}' WHERE lat IN (50, -30)", [stats(pr[:, [1, 5]])[:2]])
    either = (lat[:, None] > 40) | (lon[None, :] < 60)
    a.add("either of two dimensions", f"SELECT {every.format('tas')} FROM '{{file}}' WHERE lat > 40 OR lon < 60",
          [stats(tas[:, either])])
    a.add("nothing there", "SELECT count(*), count(tas), sum(tas) FROM '{file}' WHERE lat > 80", [[0, 0, None]])
    a.add("unwritten chunks", "SELECT count(*), count(gaps) FROM '{file}' WHERE time >= '2004-01-01' AND lon < 200",
          [[12 * 8 * 7, 0]])
    a.add("by index", 'SELECT count(sst), sum(sst) FROM "{file}"."sst" WHERE y BETWEEN 2 AND 6 AND x < 9',
          [stats(v["sst"][2:7, :9])[:2]])

    a.add("first and last instant", "SELECT min(time), max(time) FROM '{file}'", [[months[0], months[-1]]])
    a.add("instants", 'SELECT time FROM "{file}"."wind" WHERE wind > 10 ORDER BY time',
          [[m] for m, w in zip(months, v["wind"]) if w > 10])
    a.add("values out of range", 'SELECT time FROM "{file}"."wind" WHERE wind IS NULL ORDER BY time',
          [[m] for m, w in zip(months, v["wind"]) if np.isnan(w)])
    monthly = cube.tas.groupby(xarray.DataArray(month, dims="time", name="month")).mean(...)
    a.add("mean of each month of the year",
          "SELECT extract(month FROM time) AS m, avg(tas) FROM '{file}' GROUP BY m ORDER BY m",
          [[m + 1, mean] for m, mean in enumerate(monthly.values)])
    a.add("summers", f"SELECT {every.format('tas')} FROM '{{file}}' WHERE extract(month FROM time) IN (6, 7, 8)",
          [stats(tas[(month >= 6) & (month <= 8)])])
    a.add("sum of each year", "SELECT date_part('year', time) AS y, sum(pr), count(pr) FROM '{file}' GROUP BY y ORDER BY y",
          [[y, np.nansum(pr[year == y]), (~np.isnan(pr[year == y])).sum()] for y in (2003, 2004)])
    a.add("truncated time", "SELECT date_trunc('year', time) AS y, max(tas) FROM '{file}' GROUP BY y ORDER BY y",
          [[f"{y}-01-01T00:00:00", np.nanmax(tas[year == y])] for y in (2003, 2004)])
    a.add("mean of each latitude", "SELECT lat, avg(tas) FROM '{file}' GROUP BY lat ORDER BY lat",
          sorted(zip(lat, np.nanmean(tas, (0, 2)))))
    a.add("mean of each cell", "SELECT lat, lon, avg(pr) AS mean FROM '{file}' GROUP BY lat, lon ORDER BY mean DESC LIMIT 3",
          best(np.nanmean(pr, 0), lat, lon, 3))
    hemisphere = np.where(lat > 0, "north", "south")
    a.add("hemispheres",
          "SELECT CASE WHEN lat > 0 THEN 'north' ELSE 'south' END AS h, avg(tas) FROM '{file}' GROUP BY h ORDER BY h",
          [[h, np.nanmean(tas[:, hemisphere == h])] for h in ("north", "south")])
    means = np.nanmean(tas, (1, 2))
    a.add("warm months", "SELECT time, avg(tas) AS mean FROM '{file}' GROUP BY time HAVING avg(tas) > 283.5 ORDER BY time",
          [[m, mean] for m, mean in zip(months, means) if mean > 283.5])
    weighted = cube.tas.weighted(cube.area).mean()
    a.add("mean weighted by area",
          "SELECT sum(tas * area) / sum(CASE WHEN tas IS NOT NULL THEN area END) FROM '{file}'", [[float(weighted)]])
    a.add("spread", "SELECT stddev(tas), var_pop(tas) FROM '{file}'", [[np.nanstd(tas, ddof=1), np.nanvar(tas)]])
    a.add("broadcast", "SELECT count(wind), sum(wind), sum(area) FROM '{file}'",
          [[(~np.isnan(v["wind"])).sum() * 96, np.nansum(v["wind"]) * 96, area.sum() * 24]])

    for op, test in ((">", tas > 290), ("<=", tas <= 262.5)):
        limit = {">": 290, "<=": 262.5}[op]
        a.add(f"values {op} {limit}", f"SELECT {every.format('tas')} FROM '{{file}}' WHERE tas {op} {limit}", [stats(tas[test])])
    a.add("values of a hemisphere", "SELECT count(*) FROM '{file}' WHERE tas > 285 AND lat < 0",
          [[(tas[:, lat < 0] > 285).sum()]])
    a.add("a rounded predicate", "SELECT count(*) FROM '{file}' WHERE CAST(tas AS INT) = 285",
          [[((tas >= 285) & (tas < 286)).sum()]])
    a.add("values above the mean", "SELECT count(*) FROM '{file}' WHERE tas > (SELECT avg(tas) FROM '{file}')",
          [[(tas > np.nanmean(tas)).sum()]])
    a.add("two variables", "SELECT count(*), sum(tas * pr) FROM '{file}' WHERE tas IS NOT NULL AND pr IS NOT NULL",
          [[(~np.isnan(tas * pr)).sum(), np.nansum(tas * pr)]])
    a.add("a join", 'SELECT count(*), sum(tas * pr) FROM "{file}"."tas" JOIN "{file}"."pr" USING (time, lat, lon) '
          "WHERE tas > 290 AND pr > 2", [[((tas > 290) & (pr > 2)).sum(), (tas * pr)[(tas > 290) & (pr > 2)].sum()]])
    hottest = np.sort(tas[~np.isnan(tas)])[::-1][:3]
    a.add("hottest", "SELECT tas FROM '{file}' WHERE tas IS NOT NULL ORDER BY tas DESC LIMIT 3", [[t] for t in hottest])
    anomaly = cube.tas.groupby(xarray.DataArray(month, dims="time", name="month")) - monthly
    a.add("largest anomaly",
          "WITH c AS (SELECT extract(month FROM time) AS m, avg(tas) AS mean FROM '{file}' GROUP BY m) "
          "SELECT max(tas - mean) FROM '{file}' JOIN c ON extract(month FROM time) = c.m", [[float(anomaly.max())]])
    a.add("a table function", "SELECT count(*), count(pr), sum(pr) FROM read_array('{file}', 'pr')",
          [[pr.size, *stats(pr)[:2]]])
    a.add("distinct coordinates", "SELECT count(DISTINCT lat), count(DISTINCT lon), count(DISTINCT time) FROM '{file}'",
          [[8, 12, 24]])
    a.add("differences in time",
          "SELECT max(step) FROM (SELECT pr - lag(pr) OVER (ORDER BY time) AS step FROM '{file}' WHERE lat = 50 AND lon = 60)",
          [[np.nanmax(np.diff(pr[:, 1, 2]))]])

    a.add("bounds", 'SELECT count(*), count(time_bnds) FROM "{file}"."time_bnds"', [[48, 48]])
    nav_lat, nav_lon, sst = v["nav_lat"], v["nav_lon"], v["sst"]
    near = (nav_lat >= 55) & (nav_lat <= 62) & (nav_lon >= -10) & (nav_lon <= 3)
    a.add("a curvilinear box",
          'SELECT count(*), count(sst), avg(sst) FROM "{file}"."sst" '
          "WHERE nav_lat BETWEEN 55 AND 62 AND nav_lon BETWEEN -10 AND 3",
          [[near.sum(), (~np.isnan(sst[near])).sum(), np.nanmean(sst[near])]])
    a.add("curvilinear coordinates", 'SELECT y, x, nav_lat, nav_lon FROM "{file}"."sst" WHERE y = 3 AND x IN (0, 10) ORDER BY x',
          [[3, x, nav_lat[3, x], nav_lon[3, x]] for x in (0, 10)])
    temp, depth = v["ocean/temp"], v["ocean/depth"]
    a.add("a group", 'SELECT depth, avg(temp) FROM "{file}"."ocean/temp" GROUP BY depth ORDER BY depth',
          list(zip(depth, temp.mean(0))))
    a.add("a group with the time of the dataset",
          """SELECT count(*), sum(temp) FROM read_array('{file}', 'ocean/temp') WHERE time < '2003-07-01' AND depth > 20""",
          [[18, temp[:6, 2:].sum()]])
    return a.statements


def best(values, lat, lon, count):
    """The cells with the largest values."""
    order = np.argsort(values, axis=None)[::-1][:count]
    cells = [np.unravel_index(k, values.shape) for k in order]
    return [[lat[j], lon[i], values[j, i]] for j, i in cells]


def write_json(path, sets):
    """Statements a line each."""
    about = (
        "Rows that each statement must give on each file, {file} standing for its path. Computed by make.py with NumPy "
        "and xarray. Floating-point numbers agree to 1e-9 of their size; instants are ISO 8601 text."
    )
    lines = []
    for files, statements in sets:
        text = ",\n".join("  " + json.dumps(s, ensure_ascii=False) for s in statements)
        lines.append(f'{{"files": {json.dumps(files)}, "statements": [\n{text}\n]}}')
    Path(path).write_text(f'{{"about": {json.dumps(about)}, "sets": [\n' + ",\n".join(lines) + "\n]}\n")


def odd_blosc2(path):
    """Blosc2 frames with something special about them."""
    remove(path)
    Path(path).mkdir()
    options = {"chunks": (4, 3), "blocks": (3, 2), "mode": "w"}

    def where(name):
        return {"urlpath": f"{path}/{name}.b2nd"} | options

    blosc2.nans((10, 11), dtype="f8", **where("nans"))[2:6, 3:5] = 7
    blosc2.zeros((10, 11), dtype="f4", **where("zeros"))[2:6, 3:5] = 7
    blosc2.uninit((8, 6), dtype="i4", **where("uninit"))[0:4, 0:3] = 7
    blosc2.nans((8, 6), dtype=">f4", **where("nans_big_endian"))
    blosc2.full((10, 11), -3, dtype="i2", **where("full"))[2:6, 3:5] = 7
    blosc2.zeros((10**6, 10**6), dtype="f4", chunks=(1000, 1000), urlpath=f"{path}/huge.b2nd", mode="w")
    blosc2.zeros((0, 5), dtype="i4", urlpath=f"{path}/empty.b2nd", mode="w")
    structure = np.zeros(3, [("a", "i4"), ("b", "f8")])
    blosc2.asarray(structure, urlpath=f"{path}/structured.b2nd", mode="w")
    operand = blosc2.asarray(np.arange(10.0), urlpath=f"{path}/operand.b2nd", mode="w")
    (operand + 1).save(urlpath=f"{path}/lazy.b2nd")
    blosc2.SChunk(
        chunksize=1000, data=bytes(range(250)) * 10, cparams={"typesize": 1}, urlpath=f"{path}/bytes.b2f", mode="w"
    )
    array = blosc2.asarray(np.arange(3), urlpath=f"{path}/attributes.b2nd", mode="w")
    attrs = array.schunk.vlmeta
    attrs["tuple"], attrs["nested"], attrs["flag"] = (1, 2), {"a": [1, None]}, True
    attrs["array"], attrs["complex"], attrs["nan"] = np.array([0, 1, -2], "i1"), 1j, float("nan")
    attrs["texts"], attrs["long"], attrs["dims"] = ["a", "b"], "z" * 5000, ["station"]


if __name__ == "__main__":
    data, months = little()
    for name, write in (FILES | FLAT).items():
        write(str(HERE / name), data)
    odd_blosc2(str(HERE / "blosc2"))
    statements = expected(data, months)
    flat = [s for s in statements if "ocean/" not in s["sql"]]
    grouped = [s for s in statements if "ocean/" in s["sql"]]
    write_json(HERE / "expected.json", [(list(FILES | FLAT), flat), (list(FILES), grouped)])
