"""Files that are one dataset: writes files/ and files.json, what xarray makes of them.

Their lengths (31, 28, 31, 1), chunks, packing, units of time and formats differ, as those of archives do; `mixed` is one with
another packing in each file, `tas` is stored alike in all of them.
"""

import json
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import xarray

HERE = Path(__file__).parent
FOLDER = HERE / "files"
LAT, LON = np.linspace(-60, 60, 5), np.arange(0, 360, 45.0)
FILES = [
    # name, days from and to, units of time, chunk, scale and offset of `mixed`, format
    ("tas_b.nc", 0, 31, "days since 2001-01-01", (4, 5, 8), (0.01, 250.0), "NETCDF4"),
    ("tas_a.nc", 31, 59, "hours since 2001-01-01", (28, 2, 3), (0.02, 260.0), "NETCDF4"),
    ("tas_d.nc", 59, 90, "days since 2001-03-01", None, (0.01, 240.0), "NETCDF3_64BIT_OFFSET"),
    ("tas_c.nc", 90, 91, "minutes since 2001-04-01", (1, 5, 8), (0.05, 273.0), "NETCDF4_CLASSIC"),
]

UNITS = {"days": np.timedelta64(1, "D"), "hours": np.timedelta64(1, "h"), "minutes": np.timedelta64(1, "m")}


def cells(first, last):
    day, lat, lon = np.meshgrid(np.arange(first, last), LAT, LON, indexing="ij")
    tas = 280 + 10 * np.sin(day / 58.1) + 0.1 * lat - 0.01 * lon + ((day * 7 + lon) % 11) / 11
    return tas.astype("f4")


def write(name, first, last, units, chunk, packing, kind):
    with netCDF4.Dataset(FOLDER / name, "w", format=kind) as file:
        file.title = "days"
        file.createDimension("time", None)
        file.createDimension("lat", 5)
        file.createDimension("lon", 8)
        for axis, values in (("lat", LAT), ("lon", LON)):
            file.createVariable(axis, "f8", (axis,))[:] = values
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = units, "standard"
        dates = np.datetime64("2001-01-01T12") + np.arange(first, last) * np.timedelta64(1, "D")
        epoch = np.datetime64(units.split()[-1])
        time[:] = (dates - epoch) / UNITS[units.split()[0]]
        options = {} if chunk is None else {"chunksizes": chunk, "zlib": True}
        tas = file.createVariable("tas", "f4", ("time", "lat", "lon"), fill_value=np.float32(-999), **options)
        tas.units = "K"
        values = cells(first, last)
        values[values > 292] = -999
        tas[:] = values
        mixed = file.createVariable("mixed", "i2", ("time", "lat", "lon"), fill_value=np.int16(-32768), **options)
        mixed.scale_factor, mixed.add_offset = packing
        mixed[:] = cells(first, last)
        # Time is not its first dimension; netCDF-3 has no other place for an unlimited dimension.
        if kind != "NETCDF3_64BIT_OFFSET":
            turned = file.createVariable("turned", "i4", ("lat", "time"))
            turned[:] = np.arange(5)[:, None] * 1000 + np.arange(first, last)
        area = file.createVariable("area", "f4", ("lat",))
        area[:] = np.cos(np.deg2rad(LAT))


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for file in FILES:
        write(*file)
    parts = [xarray.open_dataset(FOLDER / name) for name, *_ in FILES]
    alike = [part[["time", "lat", "lon", "tas", "mixed"]] for part in parts]
    data = xarray.concat(alike, "time", data_vars="minimal", coords="minimal", compat="override", join="exact")
    turned = xarray.concat([parts[0].turned, parts[1].turned, parts[3].turned], "time", join="exact")
    tas, mixed = data.tas.load().astype("f8"), data.mixed.load().astype("f8")
    weights = np.cos(np.deg2rad(data.lat))
    part = mixed.sel(time=slice("2001-01-30", "2001-03-02"), lat=slice(-30, 30))
    answers = {
        "length": int(data.sizes["time"]),
        "first": str(data.time.values[0]),
        "last": str(data.time.values[-1]),
        "count": int(tas.count()),
        "mean": float(tas.mean()),
        "stddev": float(tas.std(ddof=1)),
        "months": [float(m) for m in tas.groupby("time.month").mean(...)],
        "maxima": [float(m) for m in tas.groupby("time.month").max(...)],
        "map": tas.mean("time").values.ravel().tolist(),
        "weighted": tas.weighted(weights).mean(("lat", "lon")).values.tolist(),
        "series": [None if np.isnan(v) else float(v) for v in tas.sel(lat=0, lon=90).values],
        "median": float(tas.median()),
        "mixed_mean": float(mixed.mean()),
        "mixed_months": [float(m) for m in mixed.groupby("time.month").mean(...)],
        "mixed_part": float(part.mean()),
        "mixed_over": int((mixed > 285).sum()),
        "turned": [int(turned.sum()), int(turned[2].max()), turned[3, 50:70].values.tolist()],
        "difference": float((tas - mixed).mean()),
    }
    (HERE / "files.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
