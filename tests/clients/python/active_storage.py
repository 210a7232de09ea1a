"""Lets PyActiveStorage reduce variables of a netCDF-4 file in an object store, and compares with what netCDF4 reads.

    active_storage.py SERVER STORE PORT

Of version 0.5 of the package, requests have version 1; of later ones, version 2.
"""

import importlib.metadata
import os
import sys
import tempfile

import netCDF4
import numpy as np
import requests
from activestorage.active import Active

SERVER, STORE = sys.argv[1:3]
VERSION = tuple(int(part) for part in importlib.metadata.version("PyActiveStorage").split(".")[:2])
IS_OLD = VERSION < (0, 6)


def written(path):
    """A file with variables of several types, stored in several ways."""
    numbers = np.random.default_rng(3)
    with netCDF4.Dataset(path, "w") as file:
        for name, length in [("time", 10), ("lat", 12), ("lon", 20)]:
            file.createDimension(name, length)
        dims = ("time", "lat", "lon")
        ways = {"zlib": True, "shuffle": True, "chunksizes": (4, 5, 8)}
        field = numbers.standard_normal((10, 12, 20)) * 10 + 280
        file.createVariable("tas", "f4", dims, **ways)[:] = field
        file.createVariable("double", "f8", dims, **ways)[:] = field
        file.createVariable("big", ">f8", dims, endian="big", **ways)[:] = field
        file.createVariable("count", "i4", dims, **ways)[:] = numbers.integers(-1000, 1000, field.shape)
        file.createVariable("plain", "f8", dims, zlib=True, shuffle=False, chunksizes=(5, 12, 20))[:] = field
        holes = file.createVariable("holes", "f8", dims, fill_value=-999.0, **ways)
        holes[:] = np.ma.masked_where(numbers.random(field.shape) < 0.3, field)
        ranged = file.createVariable("ranged", "f8", dims, **ways)
        ranged.valid_min, ranged.valid_max = 270.0, 290.0
        ranged[:] = field


def active(name, uri):
    options = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": STORE}}
    kind = {"storage_type" if IS_OLD else "interface_type": "s3"}
    variable = Active(uri, name, storage_options=options, active_storage_url=SERVER, **kind)
    variable._version = 2
    return variable


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "active.nc")
    written(path)
    with open(path, "rb") as file:
        assert requests.put(f"{STORE}/bucket/active/{VERSION[1]}/file.nc", data=file.read()).ok
    uri = f"s3://bucket/active/{VERSION[1]}/file.nc"
    everything = (slice(None),) * 3
    some = (slice(1, 7), slice(2, 11), slice(3, 18, 2))
    compared = 0
    with netCDF4.Dataset(path) as file:
        for name in ["tas", "double", "big", "count", "plain", "holes", "ranged"]:
            for index in [everything, some]:
                wanted = file[name][index]
                for method in ["mean", "min", "max", "sum"]:
                    if name == "count" and method == "mean":
                        continue
                    variable = active(name, uri)
                    variable._method = method
                    got = variable[index]
                    reference = getattr(np.ma, method)(wanted.astype("f8"))
                    exact = 1e-6 if name == "tas" else 1e-12
                    assert np.isclose(float(np.squeeze(got)), float(reference), rtol=exact), (name, index, method, got, reference)
                    compared += 1
                variable = active(name, uri)
                got = variable[index]
                assert np.array_equal(np.ma.getdata(got)[~np.ma.getmaskarray(wanted)], wanted.compressed()), name
        if not IS_OLD:
            # Reductionist drops axes, which this client puts back in front only.
            for axis in [(0,), (0, 1)]:
                variable = active("double", uri)
                variable._method, variable._axis = "max", axis
                got = np.squeeze(variable[everything])
                assert np.array_equal(got, file["double"][:].max(axis=axis)), axis
                compared += 1
asked = f"outgoing_response{{status_code=\"200\",http_method=\"POST\",path=\"/v{1 if IS_OLD else 2}/sum\"}}"
assert any(line.startswith(asked) for line in requests.get(f"{SERVER}/metrics").text.splitlines())
print(f"PyActiveStorage {VERSION}: {compared} values: ok")
