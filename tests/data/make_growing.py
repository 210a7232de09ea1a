"""Writes files that grow along an unlimited dimension, and the like, for the tests of INSERT (see requirements.txt).

What cell (t, y, x) of each variable holds is a formula that the tests know too.
"""

from pathlib import Path

import h5py
import netCDF4
import numpy as np

HERE = Path(__file__).parent
N, LAT, LON, DEPTH = 6, np.array([-10.0, 10.0, 30.0]), np.array([0.0, 90.0]), np.array([5.0, 50.0])
FILL = {"a": np.float32(-999), "p": np.int16(-32767), "temp": -1.0}
# Chunks that are half filled, several in a row of the grid, and a dimension that grows and is not the first.
CHUNKS = {"time": (4,), "time_bnds": (3, 2), "a": (4, 2, 2), "p": (1, 3, 1), "w": (5,), "c": (2, 4), "g/temp": (4, 2)}
ATTRIBUTES = {
    "time": {"units": "days since 2000-01-01", "calendar": "standard", "bounds": "time_bnds"},
    "p": {"scale_factor": 0.5, "add_offset": 10.0, "units": "mm"},
    "a": {"units": "K", "long_name": "a variable whose name is long enough for the header to be continued elsewhere"},
}


def variables(n=N):
    """Dimensions and stored values by path."""
    t, y, x = np.meshgrid(np.arange(n), np.arange(3), np.arange(2), indexing="ij")
    time = np.arange(n)
    return {
        "time": (("time",), time * 1.0),
        "lat": (("lat",), LAT),
        "lon": (("lon",), LON),
        "time_bnds": (("time", "bnds"), np.stack([time - 0.5, time + 0.5], 1)),
        "a": (("time", "lat", "lon"), (100 * t + 10 * y + x).astype("f4")),
        "p": (("time", "lat", "lon"), (3 * t + y - x).astype("i2")),
        "w": (("time",), (7 * time).astype(">i4")),
        "c": (("lat", "time"), (t - y / 4)[:, :, 0].T),
        "g/depth": (("depth",), DEPTH),
        "g/temp": (("time", "depth"), time[:, None] + DEPTH),
    }


def filters(name):
    return {
        "a": {"zlib": True, "complevel": 5, "shuffle": True, "fletcher32": True},
        "p": {"zlib": True, "complevel": 1, "shuffle": False},
        "c": {"zlib": True, "complevel": 9, "shuffle": True},
    }.get(name, {"zlib": False})


def netcdf4(path, length):
    """netCDF-4; `length` of time is None where it is unlimited."""
    with netCDF4.Dataset(path, "w") as root:
        root.title = "a file that grows"
        for name, size in {"time": length, "lat": 3, "lon": 2, "bnds": 2, "station": None}.items():
            root.createDimension(name, size)
        root.createGroup("g").createDimension("depth", 2)
        for path, (dims, values) in variables().items():
            chunks = CHUNKS.get(path) if length is None or path == "a" else None
            options = filters(path) | {"chunksizes": chunks} if chunks else {}
            fill = FILL.get(path.split("/")[-1])
            endian = "big" if values.dtype.byteorder == ">" else "native"
            variable = root.createVariable(path, values.dtype, dims, fill_value=fill, endian=endian, **options)
            variable.set_auto_maskandscale(False)
            variable.setncatts(ATTRIBUTES.get(path, {}))
            variable[:] = values


def netcdf4_records(path):
    """A dimension that grows and has no variable."""
    with netCDF4.Dataset(path, "w") as root:
        root.createDimension("record", None)
        root.createDimension("x", 3)
        v = root.createVariable("v", "i4", ("record", "x"), zlib=True, chunksizes=(2, 3))
        v[:] = np.arange(9).reshape(3, 3)


def hdf5(path, **options):
    """HDF5 by h5py, with dimension scales."""
    with h5py.File(path, "w", **options) as root:
        root.attrs["title"] = "a file that grows"
        for path, (dims, values) in variables().items():
            own = {"fillvalue": FILL.get(path.split("/")[-1])}
            if path in CHUNKS:
                own |= {"chunks": CHUNKS[path], "maxshape": tuple(None if d == "time" else n for d, n in zip(dims, values.shape))}
            chosen = filters(path)
            if chosen["zlib"]:
                own |= {"compression": chosen["complevel"], "shuffle": chosen["shuffle"]}
                own |= {"fletcher32": chosen.get("fletcher32", False)}
            array = root.create_dataset(path, data=values, **own)
            array.attrs.update(ATTRIBUTES.get(path, {}))
            if own["fillvalue"] is not None:
                array.attrs["_FillValue"] = own["fillvalue"]
        root.create_dataset("bnds", data=np.arange(2))
        for name in ("time", "lat", "lon", "g/depth", "bnds"):
            root[name].make_scale(name.split("/")[-1])
        for path, (dims, _) in variables().items():
            if path.split("/")[-1] not in dims:
                for axis, name in enumerate(dims):
                    root[path].dims[axis].attach_scale(root["g/depth" if name == "depth" else name])


def deep_tree(path):
    """A chunk B-tree of two levels: the key behind its last chunk has the place of that chunk."""
    with h5py.File(path, "w", libver="earliest") as root:
        x = root.create_dataset("x", shape=(70,), maxshape=(None,), chunks=(1,), dtype="i2")
        for at in range(70):
            x[at] = 3 * at


def many_filters(path):
    """Variables that cannot grow, each for another reason."""
    with h5py.File(path, "w", libver="latest") as root:
        root.create_dataset("lzf", data=np.zeros((4, 2)), chunks=(2, 2), maxshape=(None, 2), compression="lzf")
        root.create_dataset("wide", data=np.zeros((5, 2)), chunks=(2, 2), maxshape=(None, None))
        root.create_dataset("most", data=np.zeros((6, 2)), chunks=(2, 2), maxshape=(9, 2))
        root.create_dataset("whole", data=np.zeros((7, 2)))


if __name__ == "__main__":
    netcdf4(HERE / "growing.nc", None)
    netcdf4(HERE / "growing_fixed.nc", N)
    netcdf4_records(HERE / "growing_records.nc")
    hdf5(HERE / "growing_v0.h5", libver="earliest")
    hdf5(HERE / "growing_v2.h5", libver=("v108", "v108"), userblock_size=512)
    hdf5(HERE / "growing_v3.h5", libver=("v110", "v110"))
    deep_tree(HERE / "deep_tree.h5")
    many_filters(HERE / "growing_not.h5")
