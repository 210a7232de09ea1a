"""Programs that are run, and engines that take SQL: hyperslab, CDO, xarray-sql, Beacon, DuckDB, DataFusion."""

import json
import re
import shutil
from pathlib import Path

import numpy as np

from libraries import Xarray
from peer import CORES, Peer, values_of
from questions import wrap


class Hyperslab(Peer):
    extensions = ("nc", "zarr", "b2d")
    binary = "hyperslab"

    def can(self, question, format):
        return format in question.formats

    def command(self, question, format, output):
        tables = {name: f"'{path}'" for name, path in self.paths(question, format).items()}
        sql = question.sql.format(path=self.folder / format, **tables)
        return [self.binary, "--format", "json", "-c", sql]

    def parse(self, question, output, text):
        return values_of([list(row.values()) for row in json.loads(text)])


class Cdo(Peer):
    """Climate Data Operators; the answer is the netCDF file it writes."""

    extensions = ("nc",)

    @classmethod
    def installed(cls):
        return shutil.which("cdo") is not None

    def expression(self, question):
        return question.cdo

    def command(self, question, format, output):
        named = {"other": self.folder / "other.nc", "clim_cdo": self.folder / "clim_cdo.nc"}
        chain = question.cdo.format(self.folder / format, **named).split()
        return ["cdo", "-s", "-O", "-P", str(CORES), "-b", "F64", *outermost(chain), str(output)]

    def parse(self, question, output, text):
        import netCDF4

        with netCDF4.Dataset(output) as ds:
            field = ds["tas"][:].filled(np.nan).astype("f8")
        return wrap(field) if "wrap" in question.numpy else field.ravel().tolist()


class Sql(Peer):
    """A SQL engine; `tables` gives the names in FROM."""

    month = r"extract(month FROM \1)"

    def expression(self, question):
        return None if "read_array" in question.sql or "sparse" in question.tables else question.sql

    def answer(self, question, format):
        names = self.tables(self.paths(question, format))
        sql = re.sub(r"month\(([a-z.]+)\)", self.month, question.sql)
        return values_of(self.rows(sql.format(**names)))


class XarraySql(Sql, Xarray):
    """xarray-sql; times as datetime64, since it takes noleap for Gregorian days."""

    package = "xarray_sql"
    expression = Sql.expression
    answer = Sql.answer

    def load(self, format):
        import xarray_sql

        super().load(format)
        self.context = xarray_sql.Context()

    def tables(self, paths):
        for name, path in paths.items():
            ds, chunks = self.open(path), None
            if "time" in ds.indexes:
                ds = ds.assign_coords(time=ds.indexes["time"].to_datetimeindex(time_unit="us"))
                chunks = {"time": 365}
            self.context.from_dataset(name, ds, chunks=chunks)
        return {name: name for name in paths}

    def rows(self, sql):
        return self.context.sql(sql).to_arrow_table()


class DuckDb(Sql):
    package, extensions = "duckdb", ("parquet",)

    def load(self, format):
        import duckdb

        self.connection = duckdb.connect()

    def tables(self, paths):
        return {name: f"'{path}'" for name, path in paths.items()}

    def rows(self, sql):
        return self.connection.sql(sql).to_arrow_table()


class DataFusion(Sql):
    package, extensions = "datafusion", ("parquet",)

    def load(self, format):
        import datafusion

        self.context = datafusion.SessionContext()

    def tables(self, paths):
        for name, path in paths.items():
            self.context.register_parquet(name, path)
        return {name: name for name in paths}

    def rows(self, sql):
        return self.context.sql(sql).to_arrow_table()


class Beacon(Sql):
    """Beacon reads noleap times as numbers of days, so months and years are worked out of these."""

    package, extensions = "beacondb", ("nc", "zarr")

    def load(self, format):
        import beacondb

        self.connection = beacondb.connect(datasets=str(self.folder))
        ends = np.cumsum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])
        self.month = "CASE " + "".join(rf"WHEN \1 % 365 < {e} THEN {m} " for m, e in enumerate(ends, 1)) + "ELSE 12 END"

    def tables(self, paths):
        reader = {".nc": "netcdf", ".zarr": "zarr"}
        return {name: f"read_{reader[Path(path).suffix]}('{Path(path).name}')" for name, path in paths.items()}

    def rows(self, sql):
        sql = sql.replace("'2003-01-01' AND '2003-12-31 23:59:59'", "1095 AND 1460")
        return self.connection.sql(sql).arrow()


def outermost(chain):
    """The first operator of a chain is written without its dash by habit; CDO takes both."""
    return [chain[0].removeprefix("-"), *chain[1:]]
