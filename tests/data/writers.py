"""One dataset in memory, written in every format by that format's reference library."""

import gzip
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import blosc2
import h5py
import netCDF4
import numpy as np
import xarray
import zarr

# The same bytes at every run: one thread, and no time of day in the headers of gzip.
blosc2.set_nthreads(1)
gzip.time = SimpleNamespace(time=lambda: 0)
zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})


@dataclass
class Var:
    """A variable as it is stored: raw values, attributes, and how it is cut into chunks."""

    dims: tuple
    data: np.ndarray
    attrs: dict = field(default_factory=dict)
    fill: object = None  # _FillValue, of the type of the data
    chunks: tuple = None  # None: contiguous where the format can
    blocks: tuple = None  # Blosc2 blocks
    boxes: list = None  # the index boxes that are written; None: everything
    nc: dict = field(default_factory=dict)  # options of netCDF4's createVariable
    h5: dict = field(default_factory=dict)  # options of h5py's create_dataset
    sparse: bool = False  # Blosc2: one file a chunk
    cparams: dict = field(default_factory=dict)  # Blosc2: codec, level, filters
    shards: tuple = None  # Zarr version 3, by xarray
    zarr: dict = field(default_factory=dict)  # options of zarr-python's create_array, by version

    @property
    def is_text(self):
        return self.data.dtype.kind == "U"

    def writes(self):
        return self.boxes or [tuple(slice(None) for _ in self.dims)]

    def values(self):
        """All raw values, fill values where nothing is written."""
        if not self.boxes:
            return self.data
        full = np.full_like(self.data, self.fill)
        for box in self.boxes:
            full[box] = self.data[box]
        return full


@dataclass
class Data:
    """Variables by path (`group/name`), and global attributes."""

    variables: dict
    attrs: dict

    def groups(self):
        """Variables by group path, the root group first."""
        groups = {"": {}}
        for path, var in self.variables.items():
            group, _, name = path.rpartition("/")
            groups.setdefault(group, {})[name] = var
        return groups

    def dims(self, names):
        """Lengths of the dimensions of some variables."""
        return {d: n for v in names.values() for d, n in zip(v.dims, v.data.shape)}


def netcdf4(path, data):
    """netCDF-4 by netCDF4-python: deflate + shuffle where chunked, else contiguous."""
    remove(path)
    with netCDF4.Dataset(path, "w", format="NETCDF4") as root:
        root.setncatts(data.attrs)
        known = {}
        for group, variables in data.groups().items():
            at = root.createGroup(group) if group else root
            for name, length in data.dims(variables).items():
                if known.get(name) != length:
                    at.createDimension(name, None if name == "time" else length)
                    known[name] = length
            for name, var in variables.items():
                options = {"endian": "big" if var.data.dtype.byteorder == ">" else "native"}
                if var.chunks:
                    options |= {"chunksizes": var.chunks}
                    if not var.is_text:
                        options |= {"zlib": True, "complevel": 6, "shuffle": True}
                elif "time" not in var.dims and not var.is_text:
                    options |= {"contiguous": True}
                options |= var.nc
                kind = str if var.is_text else var.data.dtype
                variable = at.createVariable(name, kind, var.dims, fill_value=var.fill, **options)
                variable.set_auto_maskandscale(False)
                variable.setncatts(var.attrs)
                if "time" in var.dims and name == "time":
                    variable[:] = var.data
                for box in var.writes():
                    variable[box or ...] = var.data[box].astype(object) if var.is_text else var.data[box]


def netcdf3_classic(path, data):
    """netCDF-3 (CDF-1) by netCDF4-python."""
    _netcdf3(path, data, "NETCDF3_CLASSIC")


def netcdf3_offset64(path, data):
    """netCDF-3 with 64-bit offsets (CDF-2) by netCDF4-python."""
    _netcdf3(path, data, "NETCDF3_64BIT_OFFSET")


def netcdf3_data64(path, data):
    """netCDF-3 with 64-bit data (CDF-5) by netCDF4-python."""
    _netcdf3(path, data, "NETCDF3_64BIT_DATA")


def _netcdf3(path, data, variant):
    """Text becomes characters; groups have no place and are left out."""
    remove(path)
    variables = data.groups()[""]
    with netCDF4.Dataset(path, "w", format=variant) as root:
        root.setncatts(data.attrs)
        for name, length in data.dims(variables).items():
            root.createDimension(name, None if name == "time" else length)
        for name, var in variables.items():
            values, dims, kind = var.data, var.dims, var.data.dtype.newbyteorder("=")
            if var.is_text:
                words = np.char.encode(var.data, "utf-8")
                dims, kind = (*dims, f"{name}_length"), "S1"
                values = words.view("S1").reshape(*words.shape, -1)
                root.createDimension(dims[-1], values.shape[-1])
            variable = root.createVariable(name, kind, dims, fill_value=var.fill)
            variable.set_auto_mask(False)
            variable.set_auto_scale(False)
            variable.set_auto_chartostring(False)
            variable.setncatts(var.attrs)
            for box in var.writes():
                variable[box or ...] = values[box]


def hdf5(path, data):
    """HDF5 by h5py, newest file format, with dimension scales as netCDF-4 has them."""
    remove(path)
    with h5py.File(path, "w", libver="latest") as root:
        root.attrs.update(data.attrs)
        scales = {}
        for group, variables in data.groups().items():
            at = root.require_group(group) if group else root
            for name, var in variables.items():
                values = np.char.encode(var.data, "utf-8") if var.is_text else var.data
                options = {"chunks": var.chunks, "fillvalue": var.fill} | var.h5
                if var.chunks and not var.is_text and "compression" not in options:
                    options |= {"compression": "gzip", "compression_opts": 6, "shuffle": True}
                if not var.dims:
                    options = {}
                dataset = at.create_dataset(name, values.shape, values.dtype, **options)
                for box in var.writes():
                    dataset[box] = values[box]
                dataset.attrs.update(var.attrs)
                if var.fill is not None:
                    dataset.attrs["_FillValue"] = np.array([var.fill], var.data.dtype)
            for dim, length in data.dims(variables).items():
                if scales.get(dim) is not None and scales[dim].shape == (length,):
                    continue
                if dim in at:
                    at[dim].make_scale(dim)
                else:
                    scale = at.create_dataset(dim, (length,), ">f4", track_order=True)
                    scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{length:10}")
                scales[dim] = at[dim]
            for name, var in variables.items():
                for axis, dim in enumerate(var.dims):
                    if not at[name].is_scale:
                        at[name].dims[axis].attach_scale(scales[dim])


def zarr2(path, data):
    """Zarr version 2 by zarr-python."""
    _zarr(path, data, 2)


def zarr3(path, data):
    """Zarr version 3 by zarr-python, one object a chunk."""
    _zarr(path, data, 3)


def _zarr(path, data, version):
    remove(path)
    root = zarr.create_group(path, zarr_format=version, attributes=plain(data.attrs))
    for name, var in data.variables.items():
        group, _, leaf = name.rpartition("/")
        at = root.require_group(group) if group else root
        attrs = plain(var.attrs)
        options = {"fill_value": var.fill if var.fill is not None else None}
        if var.fill is not None:
            # A number also in version 3, where xarray writes floating-point numbers as base64.
            attrs["_FillValue"] = plain(var.fill)
        if version == 2:
            attrs["_ARRAY_DIMENSIONS"] = list(var.dims)
        else:
            options["dimension_names"] = list(var.dims)
            if var.data.dtype.byteorder == ">":
                options["serializer"] = zarr.codecs.BytesCodec(endian="big")
        dtype = "str" if var.is_text and version == 3 else var.data.dtype
        if version == 3 and not var.is_text:
            dtype = var.data.dtype.newbyteorder("=")
        array = at.create_array(
            leaf,
            shape=var.data.shape,
            dtype=dtype,
            chunks=var.chunks or var.data.shape,
            attributes=attrs,
            **options | var.zarr.get(version, {}),
        )
        for box in var.writes():
            array[box or ...] = var.data[box]
    if version == 2:
        zarr.consolidate_metadata(path)


def zarr3_sharded(path, data):
    """Zarr version 3 by xarray, sharded where a variable says so."""
    remove(path)
    for group, variables in data.groups().items():
        dataset = xarray.Dataset(attrs=data.attrs if not group else {})
        encoding = {}
        for name, var in variables.items():
            values = var.values()
            kind = object if var.is_text else values.dtype.newbyteorder("=")
            dataset[name] = xarray.Variable(var.dims, values.astype(kind), var.attrs)
            encoding[name] = {"_FillValue": var.fill, "chunks": var.chunks or var.data.shape}
            if var.fill is not None:
                encoding[name]["fill_value"] = var.fill
            if var.is_text or not var.dims:
                encoding[name] = {}
            if var.shards:
                encoding[name]["shards"] = var.shards
        dataset.to_zarr(
            path, group=group or None, mode="a", zarr_format=3, encoding=encoding, consolidated=False
        )


def blosc2_directory(path, data):
    """A directory of b2nd arrays: attributes and names of dimensions are variable-length metalayers."""
    remove(path)
    Path(path).mkdir()
    root = blosc2.SChunk(urlpath=f"{path}/__vlmeta__.b2f", mode="w")
    for key, value in data.attrs.items():
        root.vlmeta[key] = value
    for name, var in data.variables.items():
        where = Path(path) / f"{name}.b2nd"
        where.parent.mkdir(exist_ok=True)
        options = {"chunks": var.chunks, "blocks": var.blocks} if var.chunks else {}
        options |= {"urlpath": str(where), "contiguous": not var.sparse, "mode": "w"}
        options |= {"cparams": {"nthreads": 1} | var.cparams}
        if var.boxes:
            array = blosc2.full(var.data.shape, var.fill, dtype=var.data.dtype, **options)
        else:
            array = blosc2.asarray(var.data, **options)
        for box in var.boxes or []:
            array[box] = np.ascontiguousarray(var.data[box])
        attrs = plain(var.attrs)
        if var.fill is not None:
            attrs["_FillValue"] = plain(var.fill)
        attrs["_ARRAY_DIMENSIONS"] = list(var.dims)
        for key, value in attrs.items():
            array.schunk.vlmeta[key] = value


def plain(value):
    """NumPy scalars and arrays as Python's own."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def decode(var):
    """The values by the CF conventions, NaN where they are missing."""
    raw, attrs = var.values(), var.attrs
    if var.is_text:
        return raw
    if attrs.get("_Unsigned") == "true":
        raw = raw.view(raw.dtype.str.replace("i", "u"))
    missing = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
    if var.fill is not None:
        missing |= raw == var.fill
    low, high = attrs.get("valid_range", (attrs.get("valid_min"), attrs.get("valid_max")))
    with np.errstate(invalid="ignore"):
        if low is not None:
            missing |= raw < low
        if high is not None:
            missing |= raw > high
    values = raw.astype("f8")
    if "scale_factor" in attrs:
        values = values * attrs["scale_factor"] + attrs.get("add_offset", 0.0)
    return np.where(missing, np.nan, values)


def remove(path):
    """Removes what was written before."""
    path = Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
