"""Writes the datasets of the comparison into a folder (about 2.5 GB): python make_data.py FOLDER [--small]

daily.nc, daily.zarr, daily.b2d   3650 × 192 × 288 float32 tas(time, lat, lon), noleap calendar, one time step a chunk
cubes.nc                          500³ float64 in 250,047 chunks of 8³, i + 500 j + 250000 k (version 1 B-tree)
cubes_latest.nc                   the same with the newest file format (fixed array)
flat.nc                           3650 × 192 × 288 float32, contiguous
sparse.zarr                       10^12 cells in 10^6 chunks, one of them written
"""

import shutil
import sys
from pathlib import Path

import blosc2
import h5py
import netCDF4
import numpy as np
import zarr

folder = Path(sys.argv[1])
days, lats, lons = (365, 96, 144) if "--small" in sys.argv else (3650, 192, 288)
side = 100 if "--small" in sys.argv else 500
folder.mkdir(parents=True, exist_ok=True)

time = np.arange(days) + 0.5
lat = np.linspace(-90, 90, lats)
lon = np.arange(lons) * 360.0 / lons
UNITS = {"units": "days since 2000-01-01", "calendar": "noleap"}


def step(day):
    """One day of a smooth field with noise of 1/64 K, so that it compresses as model output does."""
    noise = np.random.default_rng(day).normal(size=(lats, lons))
    season = np.cos(2 * np.pi * (day % 365 - 15) / 365)
    field = 288 - 40 * np.sin(np.radians(lat))[:, None] ** 2 - 8 * season * np.sin(np.radians(lat))[:, None]
    return (np.round((field + 2 * np.sin(np.radians(lon))[None, :] + noise) * 64) / 64).astype("f4")


def netcdf(name, **how):
    with netCDF4.Dataset(folder / name, "w") as ds:
        for dim, values in (("time", time), ("lat", lat), ("lon", lon)):
            ds.createDimension(dim, len(values))
            ds.createVariable(dim, "f8", (dim,))[:] = values
        ds["time"].setncatts(UNITS)
        tas = ds.createVariable("tas", "f4", ("time", "lat", "lon"), **how)
        tas.units = "K"
        for day in range(days):
            tas[day] = step(day)


def cubes(name, libver):
    i, j, k = np.meshgrid(*3 * [np.arange(side, dtype="f8")], indexing="ij")
    with h5py.File(folder / name, "w", libver=libver) as f:
        for dim in "xyz":
            f[dim + "dim"] = np.arange(side, dtype="f8")
            f[dim + "dim"].make_scale(dim + "dim")
        data = f.create_dataset("data", (side,) * 3, "f8", chunks=(8, 8, 8))
        for at, dim in enumerate("xyz"):
            data.dims[at].attach_scale(f[dim + "dim"])
        data[...] = i + 500 * j + 250000 * k


def main():
    netcdf("daily.nc", chunksizes=(1, lats, lons), zlib=True, complevel=4, shuffle=True)
    netcdf("flat.nc", contiguous=True)
    cubes("cubes.nc", "earliest")
    cubes("cubes_latest.nc", "latest")
    for name in ("daily.zarr", "daily.b2d", "sparse.zarr"):
        shutil.rmtree(folder / name, ignore_errors=True)
    root = zarr.open_group(folder / "daily.zarr", mode="w", zarr_format=3)
    (folder / "daily.b2d").mkdir()

    def store(name, values, dims, attributes, chunks):
        array = root.create_array(
            name, shape=values.shape, chunks=chunks, dtype=values.dtype, dimension_names=dims, attributes=attributes
        )
        packed = blosc2.empty(
            values.shape, values.dtype, chunks=chunks, urlpath=str(folder / "daily.b2d" / f"{name}.b2nd"), mode="w"
        )
        packed.schunk.vlmeta["_ARRAY_DIMENSIONS"] = dims
        for key, value in attributes.items():
            packed.schunk.vlmeta[key] = value
        return array, packed

    for name, values, attributes in (("time", time, UNITS), ("lat", lat, {}), ("lon", lon, {})):
        for array in store(name, values, [name], attributes, values.shape):
            array[:] = values
    tas = np.lib.stride_tricks.as_strided(np.zeros(1, "f4"), (days, lats, lons), (0, 0, 0))
    arrays = store("tas", tas, ["time", "lat", "lon"], {"units": "K"}, (1, lats, lons))
    for day in range(days):
        field = step(day)
        for array in arrays:
            array[day] = field
    sparse = zarr.create_array(
        folder / "sparse.zarr", shape=(10**4,) * 3, chunks=(100,) * 3, dtype="f4", fill_value=0, zarr_format=3
    )
    sparse[5000:5100, 5000:5100, 5000:5100] = 1


if __name__ == "__main__":
    main()
