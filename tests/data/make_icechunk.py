"""Writes small repositories of Icechunk, with icechunk, zarr-python and xarray as their users would.

    python make_icechunk.py            (icechunk 2.3.0, zarr 3.4.2, xarray 2026.9.0; Python 3.12 or newer)

`little.icechunk` is in the second version of the format, `first.icechunk` in the first; the same is a sample for examples:

    main    first  second     tas: cell k (in C order of time, lat, lon) is k; six slices, then eight
    dev     first  warmer     tas + 1000
    v1      first             a tag

`inserts/ice.icechunk` is the cube into which tests insert, `v3.zarr` beside it as a repository. Prints the ids of the
snapshots.
"""

import shutil
import warnings
from pathlib import Path

import icechunk
import numpy as np
import xarray as xr
import zarr

import make_inserts

HERE = Path(__file__).parent
LAT, LON = np.array([-60.0, -20, 20, 60]), np.arange(5) * 10.0


def cube(start, count, more=0):
    cells = np.arange(start * 20, (start + count) * 20).reshape(count, 4, 5) + more
    units = {"units": "days since 2000-01-01", "calendar": "noleap"}
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), cells.astype("f4"), {"units": "K"})},
        coords={"time": ("time", np.arange(start, start + count), units), "lat": LAT, "lon": LON},
        attrs={"title": "a little cube"},
    )


def new(path, version):
    """A repository that keeps chunks of more than 64 bytes in objects."""
    shutil.rmtree(path, ignore_errors=True)
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=64)
    storage = icechunk.local_filesystem_storage(str(path))
    repository = icechunk.Repository.create(storage, config=config, spec_version=version)
    repository.save_config()
    return repository


def make(path, version):
    repository = new(path, version)
    session = repository.writable_session("main")
    encoding = {"tas": {"chunks": (4, 3, 4), "compressors": ()}, "time": {"chunks": (4,)}}
    cube(0, 6).to_zarr(session.store, zarr_format=3, consolidated=False, encoding=encoding)
    ocean = zarr.open_group(session.store).create_group("ocean")
    sst = ocean.create_array(
        "sst", shape=(4, 6), chunks=(2, 3), shards=(4, 6), dtype="i2", dimension_names=["y", "x"], fill_value=-1
    )
    sst[:, :] = np.arange(24).reshape(4, 6)
    # A shard that is small enough to stand in a manifest.
    depth = ocean.create_array(
        "depth", shape=(4,), chunks=(2,), shards=(4,), dtype="i2", dimension_names=["y"], fill_value=0, compressors=()
    )
    depth[:2] = [7, 8]
    first = session.commit("first")
    repository.create_tag("v1", first)
    repository.create_branch("dev", first)

    session = repository.writable_session("main")
    cube(6, 2).to_zarr(session.store, append_dim="time", consolidated=False)
    second = session.commit("second")

    session = repository.writable_session("dev")
    zarr.open_group(session.store)["tas"][:] = cube(0, 6, more=1000)["tas"].values
    far = zarr.open_group(session.store).create_array(
        "far", shape=(4,), chunks=(2,), dtype="i4", dimension_names=["n"], fill_value=0, compressors=()
    )
    far[2:] = [30, 40]
    session.store.set_virtual_ref("far/c/0", "s3://elsewhere/far.bin", offset=16, length=8, validate_container=False)
    warmer = session.commit("warmer")
    print(path.name, {"first": first, "second": second, "warmer": warmer})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    make(HERE / "icechunk/little.icechunk", 2)
    make(HERE / "icechunk/first.icechunk", 1)
    make(HERE.parents[1] / "sql-examples/data/cube.icechunk", 2)
    session = new(HERE / "inserts/ice.icechunk", 2).writable_session("main")
    make_inserts.cube(0, 6).to_zarr(session.store, zarr_format=3, consolidated=False)
    session.commit("six slices")
