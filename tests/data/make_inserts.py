"""Writes small cubes into which tests insert rows, each with xarray or zarr-python as their users would.

    python make_inserts.py

Values are plain arithmetic on indices: cell k (in C order of time, lat, lon) of `tas` is k, of `pr` k / 2.
"""

import shutil
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from writers import Data, Var, blosc2_directory, netcdf3_classic, netcdf4

HERE = Path(__file__).parent / "inserts"
LAT, LON = np.array([-60.0, -20, 20, 60]), np.arange(5) * 10.0


def cube(start, count, units="days since 2000-01-01", calendar="noleap"):
    """`count` slices from slice `start` on."""
    cells = np.arange(start * 20, (start + count) * 20).reshape(count, 4, 5)
    time = ("time", np.arange(start, start + count), {"units": units, "calendar": calendar})
    data = xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), cells.astype("f4")),
            "pr": (("time", "lat", "lon"), cells * 0.5),
            "area": (("lat", "lon"), np.arange(20.0).reshape(4, 5)),
        },
        coords={"time": time, "lat": LAT, "lon": LON},
    )
    data["pr"].encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -9999}
    for name in ("tas", "pr"):
        data[name].encoding["chunks"] = (4, 3, 4)
    data["time"].encoding["chunks"] = (4,)
    return data


def plain(name, zarr_format, consolidated, start=0, count=6, shards=None):
    data = cube(start, count)
    if shards:
        data["tas"].encoding["shards"] = shards
    data.to_zarr(HERE / name, zarr_format=zarr_format, consolidated=consolidated)


def turned():
    """Zarr v2 in F order; the dimension that grows is the last; latitudes descend; hours in floating point."""
    cells = np.arange(120).reshape(6, 4, 5)
    group = zarr.open_group(HERE / "turned.zarr", mode="w", zarr_format=2)
    array(group, "t", cells.transpose(1, 2, 0).astype("i4"), ["lat", "lon", "time"], (2, 5, 4), order="F", fill_value=-1)
    units = {"units": "hours since 2000-01-01 12:00:00", "calendar": "standard"}
    array(group, "time", np.arange(6) * 1.5, ["time"], (4,), **units)
    array(group, "lat", LAT[::-1].astype("f4"), ["lat"], (4,))
    array(group, "lon", np.arange(5, dtype="i2"), ["lon"], (5,))
    zarr.consolidate_metadata(group.store)


def named():
    """Zarr v2: fixed coordinates of text and of integers, integer seconds, big-endian data; without consolidated metadata."""
    group = zarr.open_group(HERE / "named.zarr", mode="w", zarr_format=2)
    cells = np.arange(24).reshape(4, 2, 3)
    array(group, "v", cells.astype(">i8"), ["time", "station", "level"], (1, 2, 2), fill_value=-1)
    units = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
    array(group, "time", np.arange(4, dtype="i8") * 60, ["time"], (3,), **units)
    array(group, "station", np.array([b"Bergen", b"Lima"]), ["station"], (2,), fill_value=b"")
    array(group, "level", np.array([1000, 850, 500], "i2"), ["level"], (3,), fill_value=0)


def bare():
    """Zarr v3 without coordinate variables."""
    group = zarr.open_group(HERE / "bare.zarr", mode="w", zarr_format=3)
    data = np.arange(15, dtype="f8").reshape(5, 3)
    group.create_array("v", data=data, chunks=(2, 2), dimension_names=["n", "k"], compressors=None, fill_value=np.nan)


def nested():
    """Zarr v3 with the cube in a group within a group, and bounds of the times."""
    data = cube(0, 6)[["tas"]]
    data["time"].attrs["bounds"] = "time_bnds"
    edges = np.stack([np.arange(6) - 0.5, np.arange(6) + 0.5], 1)
    data["time_bnds"] = (("time", "nv"), edges)
    data["time_bnds"].encoding["chunks"] = (4, 2)
    root = zarr.open_group(HERE / "nested.zarr", mode="w", zarr_format=3)
    root.create_group("model")
    data.to_zarr(HERE / "nested.zarr", group="model/run", zarr_format=3, consolidated=False)
    zarr.consolidate_metadata(HERE / "nested.zarr")


def elsewhere():
    """The cube as netCDF-4, netCDF-3, and a directory of Blosc2 arrays, of which one is sparse."""
    cells = np.arange(120).reshape(6, 4, 5)
    dims, options = ("time", "lat", "lon"), {"chunks": (4, 3, 4), "blocks": (2, 3, 2)}
    packed = {"scale_factor": 0.5, "add_offset": 1.0}
    units = {"units": "days since 2000-01-01", "calendar": "noleap"}
    variables = {
        "time": Var(("time",), np.arange(6), units, chunks=(4,), blocks=(4,)),
        "lat": Var(("lat",), LAT),
        "lon": Var(("lon",), LON),
        "tas": Var(dims, cells.astype("f4"), fill=np.float32(np.nan), sparse=True, **options),
        "pr": Var(dims, (cells - 2).astype("i2"), packed, fill=np.int16(-9999), **options),
        "area": Var(("lat", "lon"), np.arange(20.0).reshape(4, 5)),
    }
    netcdf4(HERE / "cube.nc", Data(variables, {}))
    blosc2_directory(HERE / "cube.b2d", Data(variables, {}))
    variables["time"].data = np.arange(6, dtype="i4")
    netcdf3_classic(HERE / "cube_classic.nc", Data(variables, {}))


def array(group, name, data, dims, chunks, order="C", fill_value=None, **attributes):
    made = group.create_array(
        name, shape=data.shape, dtype=data.dtype, chunks=chunks, order=order, fill_value=fill_value, compressors=None
    )
    made[...] = data
    made.attrs.update({"_ARRAY_DIMENSIONS": dims, **attributes})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    plain("v2.zarr", 2, True)
    plain("v2_plain.zarr", 2, False)
    plain("v3.zarr", 3, True)
    plain("v3_plain.zarr", 3, False)
    plain("v3_sharded.zarr", 3, True, shards=(8, 6, 8))
    plain("more.zarr", 2, True, start=6, count=3)
    turned()
    named()
    bare()
    nested()
    elsewhere()
