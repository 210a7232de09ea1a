"""Writes the sample data of the README and of sql-examples, and expected.json: statements and their rows.

    python -m venv ref && ref/bin/pip install -r ../../tests/data/requirements.txt && ref/bin/python make.py

The expected rows are computed with NumPy and xarray from the arrays in memory, never read back from a file.
"""

import sys
from pathlib import Path

import cftime
import numpy as np
import xarray
import zarr

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "data"))

from make import Answers, stats, write_json  # noqa: E402
from writers import Data, Var, blosc2_directory, decode, netcdf3_classic, netcdf3_offset64  # noqa: E402
from writers import netcdf4, zarr3  # noqa: E402

HERE = Path(__file__).parent
UNITS, CALENDAR = "days since 2001-01-01", "noleap"
DAYS = 3 * 365
LAT = {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"}
LON = {"units": "degrees_east", "standard_name": "longitude", "axis": "X"}


def waves(random, steps, modes, memory):
    """Amplitudes of some modes that change slowly: weather."""
    amplitudes = np.zeros((steps, modes))
    for step in range(1, steps):
        amplitudes[step] = memory * amplitudes[step - 1] + random.normal(0, 1, modes)
    return amplitudes * np.sqrt(1 - memory**2)


def cube(days_a_chunk):
    """Three years of daily temperature and precipitation on a grid of 11.25° × 15°."""
    random = np.random.default_rng(2002)
    days = np.arange(DAYS)
    time = 365.0 + days + 0.5
    lat = np.linspace(-84.375, 84.375, 16)
    lon = np.arange(0.0, 360.0, 15.0)
    phi, lam = np.meshgrid(np.radians(lat), np.radians(lon), indexing="ij")
    land = 0.5 * (1 + np.tanh(3 * np.sin(phi) + 2 * np.cos(2 * lam + 1)))
    season = np.cos(2 * np.pi * (days - 200) / 365)[:, None, None] * np.sin(phi)
    modes = np.stack([np.cos(phi) * np.cos(k * lam + 2 * phi * k + k) for k in range(1, 7)])
    weather = np.einsum("tk,kij->tij", waves(random, DAYS, 6, 0.85), modes)
    trend = 0.4 * days[:, None, None] / DAYS
    tas = 301 - 42 * np.sin(phi) ** 2 + season * (6 + 14 * land) - 2 * land + 2 * weather + trend
    tas = (np.round(tas * 2) / 2).astype("f4")
    tas_fill = np.float32(1e20)
    tas[400:404, 9, 5:8] = tas_fill  # days that were lost

    wet = np.roll(weather, 2, axis=2) + np.cos(3 * phi) * np.cos(phi) + 0.5 * season
    pr = np.round(2 * np.maximum(0, wet) ** 1.5).astype("f4")
    area = 6371e3**2 * np.radians(11.25) * np.radians(15) * np.cos(phi)

    shape = ("time", "lat", "lon")
    packed = {3: {"compressors": zarr.codecs.BloscCodec(cname="zstd", clevel=9, shuffle="shuffle", typesize=4)}}
    variables = {
        "time": Var(
            ("time",),
            time,
            {"units": UNITS, "calendar": CALENDAR, "standard_name": "time", "axis": "T"},
            chunks=(DAYS,),
        ),
        "lat": Var(("lat",), lat, LAT),
        "lon": Var(("lon",), lon, LON),
        "tas": Var(
            shape,
            tas,
            {
                "units": "K",
                "standard_name": "air_temperature",
                "long_name": "near-surface air temperature",
                "cell_methods": "time: mean",
            },
            fill=tas_fill,
            chunks=(days_a_chunk, 16, 24),
            zarr=packed,
        ),
        "pr": Var(
            shape,
            pr,
            {"units": "mm d-1", "standard_name": "lwe_precipitation_rate", "cell_methods": "time: mean"},
            chunks=(73, 16, 24),
            zarr=packed,
        ),
        "area": Var(("lat", "lon"), area, {"units": "m2", "standard_name": "cell_area"}),
    }
    return Data(variables, {"Conventions": "CF-1.11", "title": "a made-up climate, daily"})


def packed(data):
    """The same, its steps of half a degree and of a millimetre in bytes: a format that does not compress stays small."""
    variables = dict(data.variables)
    for name, scale, offset in (("tas", 0.5, 273.0), ("pr", 1.0, 0.0)):
        var = variables[name]
        missing = var.data == var.fill if var.fill is not None else np.zeros(var.data.shape, bool)
        steps = np.where(missing, 0, (var.data - np.float32(offset)) / np.float32(scale))
        assert np.all((steps == np.round(steps)) & (abs(steps) < 128))
        attrs = var.attrs | {"scale_factor": np.float32(scale), "add_offset": np.float32(offset)}
        variables[name] = Var(var.dims, np.where(missing, -128, steps).astype("i1"), attrs, fill=np.int8(-128))
    return Data(variables, data.attrs)


def ocean():
    """Twelve months of surface temperature on a curvilinear grid."""
    random = np.random.default_rng(12)
    t, y, x = np.meshgrid(np.arange(12), np.arange(20.0), np.arange(30.0), indexing="ij")
    lat = 30 + 1.8 * y[0] + 0.25 * x[0]
    lon = -60 + 2 * x[0] - 0.6 * y[0]
    sst = 26 - 0.55 * (lat - 30) + 3 * np.cos(2 * np.pi * (t - 7.5) / 12) + random.normal(0, 0.3, t.shape)
    sst = np.round(sst, 1).astype("f4")
    fill = np.float32(-999)
    sst[:, (lon > -10) & (lat < 50)] = fill
    time = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]) + 365.0 + 14
    variables = {
        "time": Var(("time",), time, {"units": UNITS, "calendar": CALENDAR, "standard_name": "time"}, chunks=(12,)),
        "nav_lat": Var(("y", "x"), lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "nav_lon": Var(("y", "x"), lon, {"units": "degrees_east", "standard_name": "longitude"}),
        "sst": Var(
            ("time", "y", "x"),
            sst,
            {"units": "degC", "standard_name": "sea_surface_temperature", "coordinates": "nav_lon nav_lat"},
            fill=fill,
            chunks=(12, 5, 6),
        ),
    }
    return Data(variables, {"Conventions": "CF-1.11", "title": "a made-up ocean, monthly"})


def months(data):
    """The month of each day."""
    dates = cftime.num2date(data.variables["time"].data, UNITS, CALENDAR)
    return dates, np.array([date.month for date in dates])


def model(data):
    """A summer as a model has it: too warm over land, latitudes from north to south, chunks of its own."""
    dates, month = months(data)
    days = np.flatnonzero([d.year == 2003 and 6 <= d.month <= 8 for d in dates])
    v = {name: var.data for name, var in data.variables.items()}
    lat, lon = v["lat"][::-1], v["lon"]
    phi, lam = np.meshgrid(np.radians(lat), np.radians(lon), indexing="ij")
    bias = 2 * np.tanh(3 * np.sin(phi) + 2 * np.cos(2 * lam + 1)) + np.random.default_rng(7).normal(0, 1, (len(days), *phi.shape))
    tas = (np.round((v["tas"][days][:, ::-1] + bias) * 4) / 4).astype("f4")
    time = data.variables["time"]
    variables = {
        "time": Var(("time",), v["time"][days], time.attrs, chunks=(len(days),)),
        "lat": Var(("lat",), lat, LAT),
        "lon": Var(("lon",), lon, LON),
        "tas": Var(("time", "lat", "lon"), tas, data.variables["tas"].attrs, chunks=(31, 8, 24)),
    }
    return Data(variables, {"Conventions": "CF-1.11", "title": "a made-up model, daily"})


def climatology(data):
    """The mean of each month."""
    _, month = months(data)
    tas = decode(data.variables["tas"])
    mean = np.stack([np.nanmean(tas[month == m], axis=0) for m in range(1, 13)]).astype("f4")
    variables = {
        "month": Var(("month",), np.arange(1, 13, dtype="i4"), {"long_name": "month of the year"}),
        "lat": data.variables["lat"],
        "lon": data.variables["lon"],
        "tas": Var(("month", "lat", "lon"), mean, data.variables["tas"].attrs),
    }
    return Data(variables, {"Conventions": "CF-1.11", "title": "a made-up climate, means of months"})


def about_cube(data):
    """The statements about the cube."""
    v = {name: decode(var) for name, var in data.variables.items()}
    dates = cftime.num2date(v["time"], UNITS, CALENDAR)
    month, year = (np.array([getattr(d, part) for d in dates]) for part in ("month", "year"))
    tas, pr, area, lat, lon = (v[name] for name in ("tas", "pr", "area", "lat", "lon"))
    a = Answers()
    a.add("what there is", "SELECT count(*), count(tas), min(time), max(time) FROM '{file}'",
          [[tas.size, stats(tas)[0], dates[0], dates[-1]]])
    a.add("statistics", "SELECT count(tas), sum(tas), min(tas), max(tas) FROM '{file}'", [stats(tas)])
    europe = np.ix_((year == 2003) & (month >= 6) & (month <= 8), (lat >= 35) & (lat <= 70), lon <= 30)
    a.add("a summer in Europe",
          "SELECT avg(tas) - 273.15, max(tas) - 273.15, sum(pr) / count(pr) FROM '{file}' WHERE lat BETWEEN 35 AND 70 "
          "AND lon BETWEEN 0 AND 30 AND time >= '2003-06-01' AND time < '2003-09-01'",
          [[np.nanmean(tas[europe]) - 273.15, np.nanmax(tas[europe]) - 273.15, np.nanmean(pr[europe])]])
    a.add("a climatology",
          "SELECT extract(month FROM time) AS month, avg(tas) AS tas, avg(pr) AS pr FROM '{file}' "
          "GROUP BY month ORDER BY month",
          [[m, np.nanmean(tas[month == m]), np.nanmean(pr[month == m])] for m in range(1, 13)])
    weights = np.where(np.isnan(tas), 0, area)
    a.add("global means weighted by area",
          "SELECT extract(year FROM time) AS year, sum(tas * area) / sum(CASE WHEN tas IS NOT NULL THEN area END) AS tas "
          "FROM '{file}' GROUP BY year ORDER BY year",
          [[y, np.nansum((tas * area)[year == y]) / weights[year == y].sum()] for y in (2002, 2003, 2004)])
    a.add("zonal means", "SELECT lat, avg(tas) FROM '{file}' GROUP BY lat ORDER BY lat",
          list(zip(lat, np.nanmean(tas, (0, 2)))))
    hot = (tas > 305).sum((0, 2))
    a.add("hot days", "SELECT lat, count(*) AS days FROM '{file}' WHERE tas > 305 GROUP BY lat ORDER BY lat",
          [[x, n] for x, n in zip(lat, hot) if n])
    heavy = xarray.DataArray((pr > 15).sum((1, 2)), dims="time").groupby(xarray.DataArray(year, dims="time", name="y")).sum()
    a.add("heavy rain", "SELECT date_part('year', time) AS year, count(*) FROM '{file}' WHERE pr > 15 GROUP BY year ORDER BY year",
          [[int(y), int(n)] for y, n in zip(heavy.y, heavy)])
    a.add("leap days do not exist",
          "SELECT count(DISTINCT time) FROM '{file}' WHERE time >= '2004-02-28' AND time < '2004-03-02'",
          [[sum(cftime.DatetimeNoLeap(2004, 2, 28) <= d < cftime.DatetimeNoLeap(2004, 3, 2) for d in dates)]])
    return a.statements


def about_ocean(data):
    """The statements about the curvilinear grid."""
    v = {name: decode(var) for name, var in data.variables.items()}
    sst, lat, lon = v["sst"], v["nav_lat"], v["nav_lon"]
    a = Answers()
    box = (lat >= 40) & (lat <= 50) & (lon >= -40) & (lon <= -20)
    a.add("a box on a curvilinear grid",
          "SELECT count(*), count(sst), avg(sst) FROM '{file}' WHERE nav_lat BETWEEN 40 AND 50 AND nav_lon BETWEEN -40 AND -20",
          [[box.sum() * 12, (~np.isnan(sst[:, box])).sum(), np.nanmean(sst[:, box])]])
    a.add("the seasons of a box",
          "SELECT extract(month FROM time) AS month, avg(sst) FROM '{file}' "
          "WHERE nav_lat BETWEEN 40 AND 50 AND nav_lon BETWEEN -40 AND -20 GROUP BY month ORDER BY month",
          [[m + 1, np.nanmean(sst[m, box])] for m in range(12)])
    a.add("land is NULL", "SELECT count(*), count(sst) FROM '{file}'", [[sst.size, (~np.isnan(sst)).sum()]])
    return a.statements


if __name__ == "__main__":
    days = cube(1)
    netcdf4(str(HERE / "tas.nc"), days)
    # Few, larger chunks where each is a file.
    zarr3(str(HERE / "tas.zarr"), cube(73))
    blosc2_directory(str(HERE / "tas.b2d"), cube(73))
    netcdf3_classic(str(HERE / "tas_classic.nc"), packed(days))
    netcdf4(str(HERE / "model.nc"), model(days))
    netcdf4(str(HERE / "climatology.nc"), climatology(days))
    sea = ocean()
    netcdf4(str(HERE / "ocean.nc"), sea)
    netcdf3_offset64(str(HERE / "ocean_64bit_offset.nc"), sea)
    zarr3(str(HERE / "ocean.zarr"), sea)
    write_json(
        HERE / "expected.json",
        [
            (["tas.nc", "tas_classic.nc", "tas.zarr", "tas.b2d"], about_cube(days)),
            (["ocean.nc", "ocean_64bit_offset.nc", "ocean.zarr"], about_ocean(sea)),
        ],
    )
