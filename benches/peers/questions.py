"""The table of questions: each one in SQL, in NumPy, in xarray, and in what else can express it.

`sql` is in hyperslab's dialect, {tas} {other} {clim} stand for tables. `numpy` is the reference too: it is evaluated on
memory-mapped arrays once. All are evaluated with g (grid.Grid), np, wrap; `numpy` and `blosc2` with the arrays tas, other,
clim; `xarray` with DataArrays of the same names; `cdo` is a chain of operators, {0} is the file. None: cannot be expressed.
An answer is a flat list of numbers; of a map of cells it is count, min, max, avg, so that nobody's output is timed.
"""

from dataclasses import dataclass

MAIN = ("daily.nc", "cube.zarr", "sharded.zarr", "cube.b2d")
MORE = (*MAIN, "daily.zarr", "daily.b2d", "plain.zarr")
CUBES = ("active75.nc", "active25.nc", "cubes.nc")
WRAP = "SELECT count(*), min(m), max(m), avg(m) FROM ({}) q"


@dataclass(frozen=True)
class Question:
    name: str
    group: str
    title: str
    sql: str
    numpy: str
    xarray: str
    cdo: str | None = None
    blosc2: str | None = None  # reductions of python-blosc2; without it, slices and NumPy
    active: str | None = None  # PyActiveStorage
    part: str = "everything"  # of the grid: what must be decoded
    formats: tuple = MAIN
    tables: tuple = ("tas",)
    tolerance: float = 1e-6  # of peers
    cdo_tolerance: float = 1e-6
    own_tolerance: float = 1e-9  # of hyperslab
    scale: float = 0.0  # differences are as precise as the fields that they are of


def questions(g):
    i, j = g.point
    more = MAIN if g.small else MORE
    between = "lat BETWEEN 40 AND 50 AND lon BETWEEN 5 AND 15"
    maps = "SELECT {} AS m FROM {{tas}} GROUP BY {}"
    mean, unweighted = "mean(dtype='f8')", "-timmean -fldmean,weights=false"
    months = "for m in range(1, 13)"
    xbox = "tas.sel(lat=slice(40, 50), lon=slice(5, 15))"
    bias = "FROM {tas} a JOIN {other} b USING (time, lat, lon)"
    both = ("tas", "other")
    return [
        Question(
            "start", "Parts", "SELECT 1", "SELECT 1", "1", None, formats=("nothing",), tables=(), part="none",
        ),
        Question(
            "mean", "Reductions of everything", "mean", "SELECT avg(tas) FROM {tas}",
            f"tas[:].{mean}", f"tas.{mean}", f"{unweighted} {{0}}",
            "tas.mean(dtype='f8')", "Active(path, 'tas').mean()[:]", formats=more,
        ),
        Question(
            "hot", "Reductions of everything", "count of cells over 295 K", "SELECT count(*) FROM {tas} WHERE tas > 295",
            "np.count_nonzero(tas[:] > 295)", "(tas > 295).sum()", "-timsum -fldsum -gtc,295 {0}", "(tas > 295).sum()",
        ),
        Question(
            "range", "Reductions of everything", "mean of cells in 290..300 K",
            "SELECT avg(tas) FROM {tas} WHERE tas BETWEEN 290 AND 300",
            f"(lambda t: t[(t >= 290) & (t <= 300)].{mean})(tas[:])", f"tas.where((tas >= 290) & (tas <= 300)).{mean}",
            blosc2="tas[(tas >= 290) & (tas <= 300)].mean(dtype='f8')",
        ),
        Question(
            "year", "Parts", "mean of a year, tropics",
            "SELECT avg(tas) FROM {tas} WHERE time BETWEEN '2003-01-01' AND '2003-12-31 23:59:59' AND lat BETWEEN -30 AND 30",
            f"tas[g.year, g.band].{mean}", f"tas.sel(time='2003', lat=slice(-30, 30)).{mean}",
            f"{unweighted} -sellonlatbox,0,360,-30,30 -selyear,2003 {{0}}", part="year", formats=more,
            active="Active(path, 'tas').mean()[g.year, g.band]",
        ),
        Question(
            "julys", "Parts", "mean of all Julys", "SELECT avg(tas) FROM {tas} WHERE month(time) = 7",
            f"np.mean([tas[july].{mean} for july in g.julys])", f"tas.sel(time=tas.time.dt.month == 7).{mean}",
            f"{unweighted} -selmon,7 {{0}}", part="julys", formats=more,
        ),
        Question(
            "point", "Parts", "time series of a cell",
            f"SELECT time, tas FROM {{tas}} WHERE lat = {float(g.lat[i])!r} AND lon = {float(g.lon[j])!r} ORDER BY time",
            "tas[:, g.point[0], g.point[1]]", "tas.sel(lat=50.6, lon=15, method='nearest')",
            f"-selindexbox,{j + 1},{j + 1},{i + 1},{i + 1} {{0}}", part="point", formats=more,
            own_tolerance=1e-7,  # cells are printed as float32
        ),
        Question(
            "median", "Parts", "median of a box of 10° × 10°", f"SELECT median(tas) FROM {{tas}} WHERE {between}",
            "np.median(tas[:, g.box[0], g.box[1]])", f"{xbox}.load().median()", part="box",
        ),
        Question(
            "map", "Groups", "map of the mean", WRAP.format(maps.format("avg(tas)", "lat, lon")),
            "wrap(tas[:].mean(0, dtype='f8'))", "wrap(tas.mean('time', dtype='f8'))", "-timmean {0}",
            "wrap(tas.mean(axis=0, dtype='f8'))", formats=more,
        ),
        Question(
            "deviation", "Groups", "map of the standard deviation", WRAP.format(maps.format("stddev(tas)", "lat, lon")),
            "wrap(tas[:].std(0, dtype='f8', ddof=1))", "wrap(tas.std('time', ddof=1, dtype='f8'))", "-timstd1 {0}",
            "wrap(tas.std(axis=0, dtype='f8', ddof=1))",
        ),
        Question(
            "zonal", "Groups", "zonal mean", "SELECT lat, avg(tas) FROM {tas} GROUP BY lat ORDER BY lat",
            "tas[:].mean((0, 2), dtype='f8')", "tas.mean(('time', 'lon'), dtype='f8')", "-zonmean -timmean {0}",
            "tas.mean(axis=(0, 2), dtype='f8')", "Active(path, 'tas', axis=(0, 2)).mean()[:]",
        ),
        Question(
            "cycle", "Groups", "monthly climatology", "SELECT month(time) AS m, avg(tas) FROM {tas} GROUP BY m ORDER BY m",
            f"(lambda t: [t[g.month == m].{mean} {months}])(tas[:])",
            "tas.mean(('lat', 'lon'), dtype='f8').groupby('time.month').mean()", "-ymonmean -fldmean,weights=false {0}",
        ),
        Question(
            "maps", "Groups", "12 maps, one a month", WRAP.format(maps.format("avg(tas)", "month(time), lat, lon")),
            f"wrap(np.stack((lambda t: [t[g.month == m].mean(0, dtype='f8') {months}])(tas[:])))",
            "wrap(tas.groupby('time.month').mean('time', dtype='f8'))", "-ymonmean {0}",
        ),
        Question(
            "weighted", "Groups", "area-weighted mean a time step",
            "SELECT time, sum(tas * cos(radians(lat))) / sum(cos(radians(lat))) FROM {tas} GROUP BY time ORDER BY time",
            "tas[:].mean(2, dtype='f8') @ g.weights / g.weights.sum()",
            "tas.weighted(np.cos(np.deg2rad(tas.lat))).mean(('lat', 'lon'))", "-fldmean {0}", cdo_tolerance=1e-5,
        ),
        Question(
            "anomaly", "Joins", "anomaly from the monthly climatology a time step",
            "SELECT t.time, avg(t.tas - c.tas) FROM {tas} t JOIN {clim} c "
            "ON month(t.time) = c.month AND t.lat = c.lat AND t.lon = c.lon GROUP BY t.time ORDER BY t.time",
            f"(lambda t, c: [(day - c[m - 1]).{mean} for day, m in zip(t, g.month)])(tas[:], clim[:])",
            "(tas.groupby('time.month') - clim).mean(('lat', 'lon'), dtype='f8')",
            "-fldmean,weights=false -ymonsub {0} {clim_cdo}", tables=("tas", "clim"), scale=300,
        ),
        Question(
            "bias", "Joins", "mean difference of two models", f"SELECT avg(a.tas - b.tas) {bias}",
            f"(tas[:] - other[:]).{mean}", f"(tas - other).{mean}", f"{unweighted} -sub {{0}} {{other}}",
            "(tas - other).mean(dtype='f8')", tables=both, scale=300,
        ),
        Question(
            "biases", "Joins", "map of the difference of two models",
            WRAP.format(f"SELECT avg(a.tas - b.tas) AS m {bias} GROUP BY lat, lon"),
            "wrap((tas[:] - other[:]).mean(0, dtype='f8'))", "wrap((tas - other).mean('time', dtype='f8'))",
            "-timmean -sub {0} {other}", "wrap((tas - other).mean(axis=0, dtype='f8'))", tables=both, scale=300,
        ),
        Question(
            "cubes", "Chunks of uncompressed HDF5", f"mean of {g.side}³ cells", "SELECT avg(data) FROM {data}",
            f"data[:].{mean}", f"data.{mean}", active="Active(path, 'data').mean()[:]", formats=CUBES, tables=("data",),
        ),
        Question(
            "corner", "Chunks of uncompressed HDF5", "mean of [0:2, 4:6, 7:9]",
            "SELECT avg(data) FROM read_array('{path}', 'data', '0:2, 4:6, 7:9')",
            f"data[0:2, 4:6, 7:9].{mean}", f"data[0:2, 4:6, 7:9].{mean}",
            active="Active(path, 'data').mean()[0:2, 4:6, 7:9]", formats=(*CUBES, "cubes_latest.nc"), tables=("data",),
            part="corner",
        ),
        Question(
            "sparse", "Chunks of uncompressed HDF5", "1 of 10⁶ chunks of 10¹² cells",
            "SELECT sum(sparse) FROM {sparse} WHERE dim_0 BETWEEN 5000 AND 5099 "
            "AND dim_1 BETWEEN 5000 AND 5099 AND dim_2 BETWEEN 5000 AND 5099",
            "sparse[5000:5100, 5000:5100, 5000:5100].sum(dtype='f8')", None, formats=("sparse.zarr",), tables=("sparse",),
            part="none",
        ),
    ]


def wrap(field):
    """A field of cells as four numbers: count, min, max, mean."""
    return [float(value) for value in (field.size, field.min(), field.max(), field.mean())]
