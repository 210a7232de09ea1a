"""Writes the datasets of the comparison into a folder, those that are missing: python make_data.py FOLDER [--small]

step(day)       3650 × 192 × 288 float32 tas(time, lat, lon), noleap calendar, the same values in every format:
  flat.nc         contiguous                             daily.nc      deflate 4 + shuffle, one time step a chunk
  daily.zarr      zstd, one time step a chunk            daily.b2d     the same as Blosc2
  cube.zarr       zstd, chunks of 365 × 48 × 72          cube.b2d      the same as Blosc2
  plain.zarr      uncompressed, the same chunks          sharded.zarr  one shard a year, zstd, inner chunks of 73 × 48 × 72
  tas.parquet     a row a cell: time, lat, lon, tas
other(day)      a second model on the same grid:
  other.nc        deflate 4 + shuffle, chunks of 10 × 96 × 144        other.zarr, other.b2d: as cube     other.parquet
clim.*          12 × 192 × 288 float32 tas(month, lat, lon), its coordinate 1..12; clim_cdo.nc has a time for each month
cubes.nc        500³ float64 in chunks of 8³, uncompressed: i + 500 j + 250000 k (version 1 B-tree); cubes_latest.nc with a
                fixed array; active25.nc and active75.nc in chunks of 25³ and 75³
sparse.zarr     10^12 cells in 10^6 chunks, one of them written

--small: 1460 × 96 × 144 and 100³, in FOLDER/small. About 8 GB, or a tenth of that.
"""

import shutil
import sys
from functools import cache
from pathlib import Path

import blosc2
import h5py
import netCDF4
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from grid import UNITS, Grid

CUBE = (365, 48, 72)


def make(folder, small=False):
    """Writes what is missing; a dataset appears under its name when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    data = Data(Grid(small))
    for name, write in data.targets().items():
        if (folder / name).exists():
            continue
        print(f"writing {folder / name}", flush=True)
        part = folder / f"part-{name}"
        shutil.rmtree(part, ignore_errors=True)
        write(part)
        part.rename(folder / name)


class Data:
    def __init__(self, grid):
        self.grid = grid

    def targets(self):
        g = self.grid
        day, deflated = (1, g.lats, g.lons), {"zlib": True, "complevel": 4, "shuffle": True}
        shard = {"chunks": (73, 48, 72), "shards": (365, g.lats, g.lons)}
        return {
            "daily.nc": lambda to: self.netcdf(to, self.tas(), chunksizes=day, **deflated),
            "flat.nc": lambda to: self.netcdf(to, self.tas(), contiguous=True),
            "daily.zarr": lambda to: self.zarr(to, self.tas(), chunks=day),
            "cube.zarr": lambda to: self.zarr(to, self.tas(), chunks=CUBE),
            "sharded.zarr": lambda to: self.zarr(to, self.tas(), **shard),
            "plain.zarr": lambda to: self.zarr(to, self.tas(), chunks=CUBE, compressors=None),
            "daily.b2d": lambda to: self.blosc2(to, self.tas(), day),
            "cube.b2d": lambda to: self.blosc2(to, self.tas(), CUBE),
            "tas.parquet": lambda to: self.parquet(to, self.tas()),
            "other.nc": lambda to: self.netcdf(to, self.other(), chunksizes=(10, 96, 144), **deflated),
            "other.zarr": lambda to: self.zarr(to, self.other(), chunks=CUBE),
            "other.b2d": lambda to: self.blosc2(to, self.other(), CUBE),
            "other.parquet": lambda to: self.parquet(to, self.other()),
            "clim.nc": lambda to: self.netcdf(to, self.clim(), "month"),
            "clim_cdo.nc": lambda to: self.netcdf(to, self.clim(), "time"),
            "clim.zarr": lambda to: self.zarr(to, self.clim(), "month"),
            "clim.b2d": lambda to: self.blosc2(to, self.clim(), (12, g.lats, g.lons), "month"),
            "clim.parquet": lambda to: self.parquet(to, self.clim(), "month"),
            "cubes.nc": lambda to: self.cubes(to, 8, "earliest"),
            "cubes_latest.nc": lambda to: self.cubes(to, 8, "latest"),
            "active25.nc": lambda to: self.cubes(to, 25, "earliest"),
            "active75.nc": lambda to: self.cubes(to, 75, "earliest"),
            "sparse.zarr": sparse,
        }

    def step(self, day):
        """One day of a smooth field with noise of 1/64 K, so that it compresses as model output does."""
        lat, lon = self.grid.lat, self.grid.lon
        noise = np.random.default_rng(day).normal(size=(len(lat), len(lon)))
        season = np.cos(2 * np.pi * (day % 365 - 15) / 365)
        field = 288 - 40 * np.sin(np.radians(lat))[:, None] ** 2 - 8 * season * np.sin(np.radians(lat))[:, None]
        return (np.round((field + 2 * np.sin(np.radians(lon))[None, :] + noise) * 64) / 64).astype("f4")

    @cache
    def tas(self):
        return np.stack([self.step(day) for day in range(self.grid.days)])

    @cache
    def other(self):
        """The same days a little warmer, with noise of their own."""
        field = np.empty_like(self.tas())
        for day, values in enumerate(self.tas()):
            noise = np.random.default_rng(10**6 + day).normal(0.5, 0.5, size=values.shape)
            field[day] = values + np.round(noise * 64) / 64
        return field

    @cache
    def clim(self):
        months = [self.tas()[self.grid.month == month].mean(0, dtype="f8") for month in range(1, 13)]
        return np.stack(months).astype("f4")

    def dimensions(self, first):
        """Name, values and attributes of each coordinate of a field whose first dimension is `first`."""
        g = self.grid
        months = np.array([15.5 + 365 / 12 * month for month in range(12)])
        values = {"month": np.arange(1, 13), "time": g.time}[first]
        return [
            (first, values, UNITS if first == "time" else {}, months),
            ("lat", g.lat, {"units": "degrees_north"}, None),
            ("lon", g.lon, {"units": "degrees_east"}, None),
        ]

    def netcdf(self, to, field, first="time", **how):
        with netCDF4.Dataset(to, "w") as ds:
            for name, values, attributes, months in self.dimensions(first):
                values = months if name == "time" and len(field) == 12 else values
                ds.createDimension(name, len(values))
                ds.createVariable(name, values.dtype, (name,))[:] = values
                ds[name].setncatts(attributes)
            tas = ds.createVariable("tas", "f4", (first, "lat", "lon"), **how)
            tas.units = "K"
            for start in range(0, len(field), 10):
                tas[start : start + 10] = field[start : start + 10]

    def zarr(self, to, field, first="time", **how):
        root = zarr.open_group(to, mode="w", zarr_format=3)
        arrays = [(name, values, [name], attributes, {}) for name, values, attributes, _ in self.dimensions(first)]
        for name, values, dims, attributes, more in [*arrays, ("tas", field, [first, "lat", "lon"], {"units": "K"}, how)]:
            root.create_array(
                name, shape=values.shape, dtype=values.dtype, dimension_names=dims, attributes=attributes, **more
            )[:] = values

    def blosc2(self, to, field, chunks, first="time"):
        to.mkdir()
        arrays = [(name, values, [name], attributes, values.shape) for name, values, attributes, _ in self.dimensions(first)]
        for name, values, dims, attributes, chunk in [*arrays, ("tas", field, [first, "lat", "lon"], {"units": "K"}, chunks)]:
            array = blosc2.asarray(values, chunks=chunk, urlpath=str(to / f"{name}.b2nd"), mode="w")
            array.schunk.vlmeta["_ARRAY_DIMENSIONS"] = dims
            for key, value in attributes.items():
                array.schunk.vlmeta[key] = value

    def parquet(self, to, field, first="time"):
        """Row groups of about a million rows, in C order."""
        g = self.grid
        at = np.arange(1, 13)
        if first == "time":
            at = np.array([date.isoformat() for date in g.dates], "M8[ms]")
        cells, group = g.lats * g.lons, max(1, 2**20 // (g.lats * g.lons))
        lat, lon = np.repeat(g.lat, g.lons), np.tile(g.lon, g.lats)
        writer = None
        for start in range(0, len(field), group):
            block = field[start : start + group]
            columns = {
                first: np.repeat(at[start : start + group], cells),
                "lat": np.tile(lat, len(block)),
                "lon": np.tile(lon, len(block)),
                "tas": block.ravel(),
            }
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(to, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=len(table))
        writer.close()

    def cubes(self, to, chunk, libver):
        side = self.grid.side
        index = np.arange(side, dtype="f8")
        with h5py.File(to, "w", libver=libver) as f:
            for dim in "xyz":
                f[dim + "dim"] = index
                f[dim + "dim"].make_scale(dim + "dim")
            data = f.create_dataset("data", (side,) * 3, "f8", chunks=(chunk,) * 3)
            for at, dim in enumerate("xyz"):
                data.dims[at].attach_scale(f[dim + "dim"])
            data[...] = index[:, None, None] + 500 * index[:, None] + 250000 * index


def sparse(to):
    array = zarr.create_array(to, shape=(10**4,) * 3, chunks=(100,) * 3, dtype="f4", fill_value=0, zarr_format=3)
    array[5000:5100, 5000:5100, 5000:5100] = 1


if __name__ == "__main__":
    place = Path(sys.argv[1])
    make(place / "small" if "--small" in sys.argv else place, "--small" in sys.argv)
