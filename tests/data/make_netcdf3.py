"""Writes netCDF-3 files with records of odd sizes into `netcdf3`, and expected.json: statements and their rows.

    python -m venv ref && ref/bin/pip install -r requirements.txt && ref/bin/python make_netcdf3.py

`NAME_4.nc` has the first four records of `NAME_7.nc`, both written by netCDF4-python: what appends the other three to
the first has to make the second of it, byte for byte. What is given values in `NAME_some.nc`, and what other values are
replaced in `NAME_other.nc`, makes these files of the others in the same way. The expected rows are computed with NumPy from the arrays in memory.
"""

from pathlib import Path

import netCDF4
import numpy as np

from make import Answers, write_json
from writers import remove

HERE = Path(__file__).parent / "netcdf3"
RECORDS = 7
VARIANTS = {"cdf1": "NETCDF3_CLASSIC", "cdf2": "NETCDF3_64BIT_OFFSET", "cdf5": "NETCDF3_64BIT_DATA"}


def odd(variant):
    """Variables of records of all sizes: dimensions, values, attributes."""
    random = np.random.default_rng(3)
    records = np.arange(RECORDS)
    cells = (RECORDS, 3)
    words = np.array(["wet", "dry", "warm", "a", "", "calm day", "böig"])
    letters = np.char.encode(words, "utf-8").astype("S9").view("S1").reshape(RECORDS, 9)
    units = {"units": "hours since 2020-02-28 12:00:00", "standard_name": "time"}
    variables = {
        "lat": (("lat",), np.array([-10.5, 0, 40]), {"units": "degrees_north"}),
        "area": (("lat",), np.array([1, 2, 3], "i2"), {}),
        "time": (("time",), records * 6.0, units),
        "short": (("time", "lat"), random.integers(-300, 300, cells).astype("i2"), {"_FillValue": np.int16(-1)}),
        "byte": (("time", "lat"), random.integers(-100, 100, cells).astype("i1"), {}),
        "flag": (("time",), random.integers(-100, 100, RECORDS).astype("i1"), {}),
        "word": (("time", "length"), letters, {}),
        "packed": (("time", "lat"), random.integers(0, 100, cells).astype("i2"),
                   {"scale_factor": 0.25, "add_offset": 10.0, "missing_value": np.int16(-9)}),
        "int": (("time", "lat"), random.integers(-(2**31) + 2, 2**31, cells).astype("i4"), {}),
        "float": (("time", "lat"), random.normal(0, 1, cells).astype("f4"), {}),
        "double": (("time", "lat"), random.normal(0, 1e100, cells), {}),
    }
    if variant == "cdf5":
        variables |= {
            "ubyte": (("time", "lat"), random.integers(0, 256, cells).astype("u1"), {}),
            "ushort": (("time", "lat"), random.integers(0, 65535, cells).astype("u2"), {"many": np.arange(3, dtype="u8")}),
            "uint": (("time", "lat"), random.integers(0, 2**32 - 1, cells).astype("u4"), {}),
            "int64": (("time", "lat"), random.integers(-(2**62), 2**62, cells), {}),
            "uint64": (("time", "lat"), random.integers(0, 2**63, cells).astype("u8") * 2 - 3, {}),
        }
    return variables


def single():
    """One variable of records, which are not padded."""
    values = np.arange(RECORDS * 3, dtype="i2").reshape(RECORDS, 3) - 5
    return {"lat": (("lat",), np.array([-10.5, 0, 40]), {}), "short": (("time", "lat"), values, {})}


def lonely():
    """Single bytes a record, and nothing else."""
    return {"byte": (("time",), np.arange(RECORDS, dtype="i1") - 3, {})}


def write(path, variables, variant, records):
    remove(path)
    with netCDF4.Dataset(path, "w", format=VARIANTS[variant]) as root:
        root.title = "records of odd sizes"
        root.createDimension("time", None)
        lengths = {d: n for dims, v, _ in variables.values() for d, n in zip(dims, v.shape)}
        for name, length in lengths.items():
            if name != "time":
                root.createDimension(name, length)
        for name, (dims, values, attrs) in variables.items():
            attrs = dict(attrs)
            variable = root.createVariable(name, values.dtype, dims, fill_value=attrs.pop("_FillValue", None))
            variable.set_auto_maskandscale(False)
            variable.set_auto_chartostring(False)
            variable.setncatts(attrs)
        for name, (dims, values, _) in variables.items():
            if dims[0] == "time":
                root[name][:records] = values[:records]
            else:
                root[name][:] = values


def some(path, variables, variant):
    """Four records, and of a fifth only some variables: the library fills the others."""
    write(path, variables, variant, 4)
    with netCDF4.Dataset(path, "a") as root:
        root.set_auto_maskandscale(False)
        for name in ("time", "short", "packed", "float", "double"):
            root[name][4] = variables[name][1][4]


def other(path, variables, variant):
    """All records, of which some have other values."""
    write(path, variables, variant, RECORDS)
    with netCDF4.Dataset(path, "a") as root:
        root.set_auto_maskandscale(False)
        for name in variables:
            if name not in ("lat", "area", "time", "word"):
                root[name][2:4] = variables[name][1][3:5]


def stream(source, target):
    """The same file with the number of records left open."""
    content = bytearray(Path(source).read_bytes())
    width = 8 if content[3] == 5 else 4
    content[4 : 4 + width] = b"\xff" * width
    Path(target).write_bytes(content)


def answers(variables, records):
    """What statements give."""
    a = Answers()
    for name, (dims, values, attrs) in variables.items():
        if dims[0] == "time":
            values = values[:records]
        if name == "time":
            moments = np.datetime64("2020-02-28T12:00:00") + (values * 3600).astype("timedelta64[s]")
            rows = [[str(moment)] for moment in moments]
            a.add(name, f'SELECT {name} FROM "{{file}}"."flag" ORDER BY {name}', rows)
            continue
        if name == "word":
            rows = [[b"".join(row).decode()] for row in values]
            a.add(name, f'SELECT {name} FROM "{{file}}"."{name}" ORDER BY time', rows)
            continue
        if "scale_factor" in attrs:
            values = values * attrs["scale_factor"] + attrs["add_offset"]
        order = ", ".join(d for d in dims)
        rows = [[value] for value in values.ravel()]
        a.add(name, f'SELECT {name} FROM "{{file}}"."{name}" ORDER BY {order}', rows)
    return a.statements


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    sets = []
    sources = [(f"odd_{variant}", odd(variant), variant) for variant in VARIANTS]
    sources += [(f"single_{variant}", single(), variant) for variant in VARIANTS]
    sources += [("lonely_cdf1", lonely(), "cdf1")]
    for name, variables, variant in sources:
        for records in (0, 4, RECORDS):
            path = f"{name}_{records}.nc"
            write(str(HERE / path), variables, variant, records)
            sets.append(([path], answers(variables, records)))
    for variant in ("cdf1", "cdf5"):
        some(str(HERE / f"odd_{variant}_some.nc"), odd(variant), variant)
        other(str(HERE / f"odd_{variant}_other.nc"), odd(variant), variant)
    for name, variables in (("odd_cdf1", odd("cdf1")), ("single_cdf5", single())):
        stream(HERE / f"{name}_7.nc", HERE / f"{name}_streaming.nc")
        sets.append(([f"{name}_streaming.nc"], answers(variables, RECORDS)))
    write_json(HERE / "expected.json", sets)
