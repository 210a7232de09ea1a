"""Writes the datasets `reductions` and `layouts`, and reductions.json: aggregates and the rows that they must give.

    python -m venv ref && ref/bin/pip install -r requirements.txt && ref/bin/python make_reductions.py

The expected rows are computed with NumPy from the arrays in memory. What is missing and what is packed is checked
against what netCDF4-python and h5py read from the files.
"""

import json
from pathlib import Path

import h5py
import netCDF4
import numpy as np

from make import Answers, item
from writers import Data, Var, blosc2_directory, decode, hdf5, netcdf4, remove, zarr3

HERE = Path(__file__).parent
FILES = {
    "reductions.nc": netcdf4,
    "reductions_latest.h5": hdf5,
    "reductions.zarr": zarr3,
    "reductions.b2d": blosc2_directory,
}
LAYOUTS = "layouts.h5"
SHAPE = (10, 8, 9)
CUBE = ("z", "y", "x")


def cube():
    """A cube whose values say where they are, and what has gone wrong elsewhere with sums, missing and packed values."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    place = (x + 9 * y + 72 * z) % 37
    chunks = {"chunks": (5, 8, 9)}
    odd = {"chunks": (4, 3, 5)}

    def full(value, dtype):
        return np.full(SHAPE, value, dtype)

    unwritten = Var(CUBE, (place + 1).astype("f4"), fill=np.float32(-1), **chunks)
    unwritten.boxes = [np.s_[0:5, 0:8, 0:9]]
    variables = {
        "data": Var(CUBE, (z + 500.0 * y + 250000.0 * x), **odd),
        "u1": Var(CUBE, full(200, "u1"), **chunks),
        "i1": Var(CUBE, (place + 90).astype("i1"), **chunks),
        "i2": Var(CUBE, (place - 40 * z).astype(">i2"), **chunks),
        "i4": Var(CUBE, full(2**31 - 1, "i4"), **chunks),
        "i8": Var(CUBE, full(2**53 + 1, "i8"), **chunks),
        "f4": Var(CUBE, full(1.1, "f4"), **chunks),
        "gap": Var(
            CUBE,
            place.astype("i4"),
            {"missing_value": np.int32(6), "valid_min": np.int32(2), "valid_max": np.int32(30)},
            fill=np.int32(5),
            **odd,
        ),
        "zero": Var(CUBE, (place % 3).astype("i4"), fill=np.int32(0), **chunks),
        "several": Var(CUBE, (place % 7).astype("i2"), {"missing_value": np.array([3, 4], "i2")}, **chunks),
        "range": Var(CUBE, place.astype("f8"), {"valid_range": np.array([10.0, 20.0])}, **chunks),
        "hollow": Var(CUBE, full(-9, "f8"), fill=np.float64(-9), **chunks),
        "half": Var(CUBE, np.where(y < 4, -9.0, place).astype("f8"), fill=np.float64(-9), **odd),
        "unwritten": unwritten,
        "single": Var(
            CUBE,
            (place - 20).astype("i2"),
            {"scale_factor": np.float32(2**-7), "add_offset": np.float32(273.125)},
            fill=np.int16(-5),
            **chunks,
        ),
        "double": Var(
            CUBE, (place * 100).astype("i4"), {"scale_factor": -0.005, "add_offset": 9.0}, fill=np.int32(300), **chunks
        ),
        "weight": Var(("y",), np.linspace(0.5, 2, 8)),
    }
    return Data(variables, {"title": "numbers that add up"})


def values(var):
    """Decoded values; NaN where missing."""
    decoded = decode(var)
    several = var.attrs.get("missing_value")
    if several is not None:
        decoded = np.where(np.isin(var.values(), several), np.nan, decoded)
    return decoded


def check(path, data):
    """The reference library agrees on what is missing, and on the values of the rest."""
    with netCDF4.Dataset(path) as root:
        for name, var in data.variables.items():
            read = np.ma.filled(root[name][:].astype("f8"), np.nan)
            np.testing.assert_allclose(read, values(var), rtol=1e-6, err_msg=name)


def row(array):
    """count, sum, avg, min, max."""
    present = array[~np.isnan(array)]
    if not present.size:
        return [0, None, None, None, None]
    return [int(present.size), present.sum(), present.mean(), present.min(), present.max()]


EVERY = "count({0}), sum({0}), avg({0}), min({0}), max({0})"


def statements(data):
    """The statements about `reductions`."""
    v = {name: values(var) for name, var in data.variables.items()}
    cube = v["data"]
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    a = Answers()

    def every(promise, of="data", where=None, sql=""):
        picked = v[of] if where is None else v[of][where]
        a.add(promise, f"SELECT {EVERY.format(of)} FROM '{{file}}' {sql}", [row(picked)])

    corner = np.s_[0:2, 4:6, 7:9]
    where = "WHERE z < 2 AND y BETWEEN 4 AND 5 AND x >= 7"
    every("the mean of a corner reads the chunks of the corner", where=corner, sql=where)

    a.add("sums of small integers do not wrap", "SELECT sum(u1), avg(u1), sum(i1), avg(i1), sum(i2) FROM '{file}'",
          [[144000, 200.0, int(v["i1"].sum()), v["i1"].mean(), int(v["i2"].sum())]])
    a.add("sums of small integers do not wrap", "SELECT sum(i4), avg(i4), var_pop(i4), max(i4) FROM '{file}'",
          [[720 * (2**31 - 1), 2**31 - 1.0, 0.0, 2**31 - 1]])
    a.add("sums of integers of 64 bits are exact", "SELECT sum(i8), min(i8), count(i8) FROM '{file}'",
          [[720 * (2**53 + 1), 2**53 + 1, 720]])
    a.add("numbers of single precision are added in double precision", "SELECT sum(f4), avg(f4) FROM '{file}'",
          [[720 * float(np.float32(1.1)), float(np.float32(1.1))]])

    for keep in ("z", "y", "x", "z, y", "z, x", "y, x", "z, y, x"):
        names = keep.split(", ")
        kept = [CUBE.index(name) for name in names]
        rest = tuple(axis for axis in range(3) if axis not in kept)
        # Few rows are shown, all are compared by their sum of squares.
        sums = v["half"].copy()
        count = (~np.isnan(sums)).sum(rest)
        sums = np.where(count > 0, np.nansum(sums, rest), np.nan)
        flat = [[*np.unravel_index(k, sums.shape), count.flat[k], sums.flat[k]] for k in range(sums.size)]
        sql = f"SELECT {keep}, count(half), sum(half) FROM '{{file}}' GROUP BY {keep} ORDER BY {keep} LIMIT 12"
        a.add("any axes can be kept", sql, flat[:12])
        sql = f"SELECT count(*), sum(n), sum(s * s) FROM (SELECT count(half) AS n, sum(half) AS s FROM '{{file}}' GROUP BY {keep})"
        a.add("any axes can be kept", sql, [[sums.size, int(count.sum()), np.nansum(sums**2)]])
    a.add("an index may drop an axis", "SELECT y, sum(data) FROM '{file}' WHERE z = 3 GROUP BY y ORDER BY y",
          [[k, cube[3, k].sum()] for k in range(8)])

    indices = "indices may be strides, lists, masks or nothing"
    every(indices, where=np.s_[::3, 1::2, ::-4], sql="WHERE z % 3 = 0 AND y % 2 = 1 AND x IN (0, 4, 8)")
    every(indices, where=np.ix_([0, 1, 5], range(8), [2, 3, 8]), sql="WHERE z IN (5, 0, 1) AND x IN (2, 8, 3)")
    mask = np.array([True, False, False, True, True, False, False, True])
    every(indices, where=np.s_[:, mask], sql="WHERE y IN (0, 3, 4, 7)")
    every(indices, where=(z + y > 12) | (x < 1), sql="WHERE z + y > 12 OR x < 1")
    every(indices, where=np.s_[0:0], sql="WHERE z > 50")
    a.add(indices, "SELECT z, sum(data) FROM '{file}' WHERE z > 50 GROUP BY z", [])

    a.add("the parts of a mean come in one statement", "SELECT sum(gap), count(gap), avg(gap), count(*) FROM '{file}'",
          [[int(np.nansum(v["gap"])), int((~np.isnan(v["gap"])).sum()), np.nanmean(v["gap"]), 720]])
    a.add("what is all missing has no mean", "SELECT count(*), count(hollow), sum(hollow), avg(hollow), min(hollow), "
          "max(hollow), stddev(hollow), sum(hollow * weight) FROM '{file}'", [[720, 0] + [None] * 6])
    a.add("what is all missing has no mean", "SELECT y, count(half), sum(half), avg(half), min(half), max(half), "
          "var_pop(half) FROM '{file}' GROUP BY y ORDER BY y",
          [[k, *row(v["half"][:, k]), np.nanvar(v["half"][:, k]) if k > 3 else None] for k in range(8)])

    for name, promise in {
        "gap": "every rule for missing values counts",
        "range": "every rule for missing values counts",
        "several": "each of several missing values is missing",
        "zero": "zero may be the fill value",
        "unwritten": "chunks that were never written are missing",
        "single": "packed values are unpacked",
        "double": "packed values are unpacked",
    }.items():
        every(promise, of=name)
        every(promise, of=name, where=(y > 2) & (y < 7), sql="WHERE y > 2 AND y < 7")
        of = [[k, *row(v[name][:, :, k])] for k in range(9)]
        a.add(promise, f"SELECT x, {EVERY.format(name)} FROM '{{file}}' GROUP BY x ORDER BY x", of)
        a.add(promise, f"SELECT avg({name} * weight), stddev({name}) FROM '{{file}}'",
              [[np.nanmean(v[name] * v["weight"][:, None]), np.nanstd(v[name], ddof=1)]])
    double = v["double"]
    warm = double[double > 0]
    a.add("packed values are unpacked", "SELECT count(*), sum(double), min(double) FROM '{file}' WHERE double > 0",
          [[warm.size, warm.sum(), warm.min()]])
    a.add("a median needs the values themselves", "SELECT z, median(range) FROM '{file}' GROUP BY z ORDER BY z",
          [[k, np.nanmedian(v["range"][k])] for k in range(10)])
    a.add("counts and extremes of values above a limit",
          "SELECT x, count(*), max(range), avg(range) FROM '{file}' WHERE range >= 15 GROUP BY x ORDER BY x",
          [[k, (v["range"][:, :, k] >= 15).sum(), *(f(v["range"][:, :, k][v["range"][:, :, k] >= 15]) for f in (np.max, np.mean))]
           for k in range(9)])
    return a.statements


def raw(data):
    """The same without decoding."""
    a = Answers()
    for name in ("gap", "single", "double"):
        stored = data.variables[name].values()
        numbers = [stored.size, int(stored.sum(dtype="i8")), stored.mean(dtype="f8"), stored.min(), stored.max()]
        a.add("packed values can be had as they are", f"SELECT {EVERY.format(name)} FROM '{{file}}'", [numbers])
    return a.statements


def nan_is_missing(path):
    """Datasets that have a missing value of NaN, or NaN without one."""
    random = np.random.default_rng(3)
    numbers = np.round(random.normal(0, 4, (12, 10)), 1)
    numbers[random.random(numbers.shape) < 0.2] = np.nan
    declared = Var(("row", "column"), numbers, fill=np.float64("nan"), chunks=(5, 4))
    plain = Var(("row", "column"), numbers, chunks=(5, 4))
    netcdf4(path, Data({"declared": declared, "plain": plain}, {}))
    a = Answers()
    for name in ("declared", "plain"):
        a.add("NaN is missing", f"SELECT {EVERY.format(name)} FROM '{{file}}'", [row(numbers)])
        a.add("NaN is missing", f'SELECT "row", {EVERY.format(name)} FROM \'{{file}}\' GROUP BY "row" ORDER BY "row"',
              [[k, *row(numbers[k])] for k in range(12)])
    return a.statements


def layouts(path):
    """The same numbers, stored in every way that HDF5 has for them."""
    remove(path)
    numbers = np.arange(-60, 60).reshape(12, 10) * 3
    chunked = {"chunks": (5, 4)}
    ways = {
        "gzip": chunked | {"compression": "gzip"},
        "shuffle": chunked | {"shuffle": True},
        "shuffled_gzip": chunked | {"compression": "gzip", "shuffle": True},
        "fletcher32": chunked | {"fletcher32": True},
        "all_filters": chunked | {"compression": "gzip", "shuffle": True, "fletcher32": True},
        "chunks": chunked,
        "contiguous": {},
        "growing": {"chunks": (1, 10), "maxshape": (None, 10)},
    }
    a = Answers()
    sizes = {"<i2": "little", ">i2": "big", "<f8": "little", ">f4": "big", "<u8": "unsigned"}
    with h5py.File(path, "w") as root:
        for way, options in ways.items():
            for kind, order in sizes.items():
                stored = abs(numbers) if order == "unsigned" else numbers
                name = f"{way}_{order}_{kind[1:]}"
                root.create_dataset(name, data=stored.astype(kind), **options)
        for name, options in {"unwritten": chunked, "unwritten_contiguous": {}}.items():
            dataset = root.create_dataset(name, (12, 10), "i4", fillvalue=7, **options)
            if options:
                dataset[0:5, 0:4] = numbers[0:5, 0:4]
    promises = {
        "gzip": "every filter is undone",
        "shuffle": "every filter is undone",
        "shuffled_gzip": "every filter is undone",
        "fletcher32": "every filter is undone",
        "all_filters": "every filter is undone",
        "chunks": "either byte order is read",
        "contiguous": "what is not in chunks is one chunk",
        "growing": "either byte order is read",
    }
    with h5py.File(path) as root:
        for name in root:
            read = root[name][()]
            whole = read.dtype.kind != "f"
            kept = read.astype("f8")
            statistics = row(kept)
            if whole:
                statistics[1] = int(statistics[1])
            promise = promises.get(name.rsplit("_", 2)[0], "chunks that were never written hold the fill value")
            a.add(promise, f'SELECT {EVERY.format("v")} FROM (SELECT "{name}" AS v FROM "{{file}}"."{name}")', [statistics])
            a.add(promise, f'SELECT count(*), sum("{name}") FROM "{{file}}"."{name}" WHERE "{name}" > 20',
                  [[(kept > 20).sum(), item(read[read > 20].sum()) if (kept > 20).any() else None]])
    return a.statements


def write_json(path, sets):
    about = (
        "Rows that each aggregate must give on each file, {file} standing for its path, with the settings of its set. "
        "Computed by make_reductions.py with NumPy. Floating-point numbers agree to 1e-9 of their size."
    )
    parts = []
    for files, settings, each in sets:
        text = ",\n".join("  " + json.dumps(s, ensure_ascii=False) for s in each)
        head = f'"files": {json.dumps(files)}, "settings": {json.dumps(settings)}'
        parts.append(f'{{{head}, "statements": [\n{text}\n]}}')
    Path(path).write_text(f'{{"about": {json.dumps(about)}, "sets": [\n' + ",\n".join(parts) + "\n]}\n")


if __name__ == "__main__":
    data = cube()
    for name, write in FILES.items():
        write(str(HERE / name), data)
    check(str(HERE / "reductions.nc"), data)
    everywhere = list(FILES)
    sets = [
        (everywhere, [], statements(data)),
        (everywhere, ["hyperslab.decode = false"], raw(data)),
        (["nan.nc"], [], nan_is_missing(str(HERE / "nan.nc"))),
        ([LAYOUTS], [], layouts(str(HERE / LAYOUTS))),
    ]
    write_json(HERE / "reductions.json", sets)
