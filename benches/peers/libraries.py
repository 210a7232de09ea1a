"""Libraries of arrays: xarray alone and over dask, readers with NumPy, python-blosc2, PyActiveStorage."""

import importlib.util
from importlib import import_module

import numpy as np

from peer import CORES, Peer
from questions import wrap


class Xarray(Peer):
    package = "xarray"
    extensions = ("nc", "zarr")
    chunks = None
    zarrs = False

    def expression(self, question):
        return question.xarray

    def load(self, format):
        import xarray

        import_zarr(self.zarrs) if format.endswith("zarr") else import_module("netCDF4")
        xarray.DataArray(np.zeros((2, 2))).mean().load()  # imports what it puts off, as does flox
        if importlib.util.find_spec("flox") is not None:
            import_module("flox.xarray")
        self.xarray = xarray

    def open(self, path):
        coder = self.xarray.coders.CFDatetimeCoder(use_cftime=True)
        engine = "zarr" if path.endswith(".zarr") else "netcdf4"
        how = {"consolidated": False} if engine == "zarr" else {}
        return self.xarray.open_dataset(path, engine=engine, decode_times=coder, chunks=self.chunks, **how)

    def answer(self, question, format):
        arrays = {}
        for table, path in self.paths(question, format).items():
            ds = self.open(path)
            arrays[table] = ds["data" if table == "data" else "tas"]
        answer = self.evaluate(question.xarray, arrays)
        return answer if isinstance(answer, list) else np.asarray(answer)


class XarrayZarrs(Xarray):
    extensions = ("zarr",)
    zarrs = True

    @classmethod
    def installed(cls):
        return super().installed() and importlib.util.find_spec("zarrs") is not None


class Dask(Xarray):
    """xarray over dask arrays of about 128 MiB a chunk (`auto`), on threads, with flox."""

    chunks = "auto"

    @classmethod
    def installed(cls):
        return all(importlib.util.find_spec(name) is not None for name in ("xarray", "dask", "flox"))

    def load(self, format):
        import dask

        import_module("dask.array")
        dask.config.set(scheduler="threads", num_workers=CORES)
        super().load(format)

    def evaluate(self, expression, values):
        if expression.startswith("wrap("):
            return wrap(super().evaluate(expression[len("wrap") :], values).compute())
        return super().evaluate(expression, values)


class DaskZarrs(Dask, XarrayZarrs):
    """The same, and zarr-python with the zarrs pipeline."""

    extensions = ("zarr",)

    @classmethod
    def installed(cls):
        return Dask.installed() and XarrayZarrs.installed()


class Slices(Peer):
    """A library that gives NumPy arrays for slices, and NumPy."""

    def expression(self, question):
        return question.numpy

    def answer(self, question, format):
        arrays = {name: self.array(path, name) for name, path in self.paths(question, format).items()}
        return self.evaluate(question.numpy, arrays)


class H5py(Slices):
    package, extensions = "h5py", ("nc",)

    def load(self, format):
        import h5py

        self.h5py = h5py

    def array(self, path, table):
        return self.h5py.File(path)["data" if table == "data" else "tas"]


class NetCDF4(Slices):
    package, extensions = "netCDF4", ("nc",)

    def load(self, format):
        import netCDF4

        self.netCDF4 = netCDF4

    def array(self, path, table):
        variable = self.netCDF4.Dataset(path)["data" if table == "data" else "tas"]
        variable.set_auto_mask(False)
        return variable


class Zarrs(Slices):
    """zarr-python with the zarrs pipeline, and NumPy."""

    package, extensions = "zarrs", ("zarr",)

    def load(self, format):
        self.zarr = import_zarr(zarrs=True)

    def array(self, path, table):
        return self.zarr.open_array(path if table == "sparse" else f"{path}/tas", mode="r")


class Blosc2Slices(Slices):
    package, extensions = "blosc2", ("b2d",)

    def load(self, format):
        import blosc2

        blosc2.set_nthreads(CORES)
        self.blosc2 = blosc2

    def array(self, path, table):
        return self.blosc2.open(f"{path}/tas.b2nd", mmap_mode="r")


class Blosc2(Blosc2Slices):
    """Reductions of python-blosc2 itself."""

    def expression(self, question):
        return question.blosc2

    def answer(self, question, format):
        arrays = {name: self.array(path, name) for name, path in self.paths(question, format).items()}
        return self.evaluate(question.blosc2, arrays)


class Active(Peer):
    package, extensions = "activestorage", ("nc",)

    def expression(self, question):
        return question.active

    def load(self, format):
        from activestorage.active import Active as Reader

        self.reader = Reader

    def answer(self, question, format):
        return self.evaluate(question.active, {"Active": self.reader, "path": str(self.folder / format)})


def import_zarr(zarrs):
    import zarr

    if zarrs:
        import_module("zarrs")
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return zarr
