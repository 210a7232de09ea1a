"""What Python users do with the server: clients.py URL USER PASSWORD TOKEN [CERTIFICATE]. ADBC, pandas, polars, pyarrow.flight."""

import datetime
import sys
import warnings

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import pandas
import polars
import pyarrow
import pyarrow.flight


def main(url, user, password, token, certificate=None):
    warnings.filterwarnings("ignore")
    roots = open(certificate).read() if certificate else None
    tls = {adbc_driver_flightsql.DatabaseOptions.TLS_ROOT_CERTS.value: roots} if roots else {}
    login = {"username": user, "password": password}
    with flight_sql.connect(url, db_kwargs={**login, **tls}) as connection:
        transactions(connection)
    with flight_sql.connect(url, db_kwargs={**login, **tls}, autocommit=True) as connection:
        with connection.cursor() as cursor:
            statements(cursor)
            ingest(cursor)
            cancel(cursor)
        options(connection)
        metadata(connection)
    header = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
    with flight_sql.connect(url, db_kwargs={header: f"Bearer {token}", **tls}) as connection:
        frames(connection)
    if not certificate:
        reflected(url.removeprefix("grpc://"), user, password)
    client = pyarrow.flight.connect(url, **({"tls_root_certs": roots} if roots else {}))
    name, value = client.authenticate_basic_token(user, password)
    assert name == b"authorization" and value.startswith(b"Bearer ")
    refused(lambda: client.authenticate_basic_token(user, "wrong"), "wrong")
    print("ok")


def statements(cursor):
    cursor.execute("SELECT count(*) FROM 'data/whole.zarr'")
    assert cursor.fetchone() == (4,)
    cursor.execute("SELECT lat, avg(tas) AS mean FROM 'data/tas.nc' GROUP BY lat ORDER BY lat")
    table = cursor.fetch_arrow_table()
    assert table.num_rows == 16 and table.schema.field("lat").metadata[b"units"] == b"degrees_north"
    counted = "SELECT count(*) FROM 'data/tas.nc' WHERE lat > ? AND month(time) = ?"
    cursor.execute(counted, (0.0, 1))
    assert cursor.fetchall() == [(8 * 24 * 3 * 31,)]
    cursor.execute("SELECT time, CAST(NULL AS DOUBLE) FROM 'data/tas.nc' WHERE lat > ? LIMIT 1", (80.0,))
    assert cursor.fetchall() == [(datetime.datetime(2002, 1, 1, 12), None)]
    cursor.execute("SELECT * FROM 'data/tas.nc'")
    assert cursor.fetch_arrow_table().num_rows == 1095 * 16 * 24
    refused(lambda: cursor.execute("SELEC 1"), "Line: 1, Column: 1")
    refused(lambda: cursor.execute("SELECT * FROM '/etc/passwd'"), "not below a root")


def ingest(cursor):
    schema = pyarrow.schema(
        [
            pyarrow.field("x", pyarrow.int64(), metadata={"hyperslab.dimensions": "x"}),
            pyarrow.field("v", pyarrow.float64(), metadata={"hyperslab.dimensions": "x"}),
        ]
    )
    rows = pyarrow.table({"x": [1, 2, 3], "v": [1.5, 2.5, 3.5]}, schema=schema)
    assert cursor.adbc_ingest("data/python.zarr", rows, mode="create") == 3
    refused(lambda: cursor.adbc_ingest("data/python.zarr", rows, mode="create"), "exists already")
    assert cursor.adbc_ingest("data/python.zarr", pyarrow.table({"x": [4], "v": [9.0]}), mode="append") == 1
    cursor.executemany("INSERT INTO 'data/python.zarr' (x, v) VALUES (?, ?)", [(5, 1.0)])
    assert cursor.rowcount == 1
    cursor.execute("SELECT sum(v), count(*) FROM 'data/python.zarr'")
    assert cursor.fetchall() == [(17.5, 5)]


def transactions(connection):
    """Rows are there when they are committed, as the DB-API says."""
    with connection.cursor() as cursor:
        cursor.execute("COPY (SELECT 1 AS x, 0.5 AS v) TO 'data/whole.zarr' OPTIONS (dims 'x')")
        count = "SELECT count(*) FROM 'data/whole.zarr'"

        def counted():
            cursor.execute(count)
            return cursor.fetchone()[0]

        cursor.execute("INSERT INTO 'data/whole.zarr' (x, v) VALUES (2, 1.0)")
        cursor.executemany("INSERT INTO 'data/whole.zarr' (x, v) VALUES (?, ?)", [(3, 9.0), (4, 8.0)])
        assert counted() == 1
        connection.commit()
        assert counted() == 4
        cursor.execute("INSERT INTO 'data/whole.zarr' (x, v) VALUES (5, 1.0)")
        connection.rollback()
        assert counted() == 4
        cursor.executemany("INSERT INTO 'data/whole.zarr' (x, v) VALUES (?, ?)", [(5, 1.0), (6, 2.0)])
        cursor.execute("INSERT INTO 'data/whole.zarr' (x, v) VALUES (5, 3.0)")
        # The driver makes no use of a connection after that.
        refused(connection.commit, "two rows are for one cell: x 5")


def cancel(cursor):
    cursor.execute("SELECT a.tas, b.tas FROM 'data/tas.nc' a CROSS JOIN 'data/tas.nc' b")
    batches = cursor.fetch_record_batch()
    batches.read_next_batch()
    cursor.adbc_cancel()
    refused(lambda: list(batches), "cancel")


def metadata(connection):
    objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    schemas = {schema["db_schema_name"]: schema for schema in objects[0]["catalog_db_schemas"]}
    tables = [table["table_name"] for table in schemas["data/tas.nc"]["db_schema_tables"]]
    assert "tas" in tables and "pr" in tables, tables
    schema = connection.adbc_get_table_schema("tas", db_schema_filter="data/tas.nc")
    assert schema.names == ["time", "lat", "lon", "tas"]
    assert connection.adbc_get_info()["vendor_name"] == "hyperslab"


def options(connection):
    """The settings of SET, as options of the connection."""
    setting = "adbc.flight.sql.session.option.hyperslab.decode"
    with connection.cursor() as cursor:
        first = "SELECT time FROM 'data/tas.nc' LIMIT 1"
        cursor.execute(first)
        assert pyarrow.types.is_timestamp(cursor.fetch_arrow_table().schema.field("time").type)
        connection.adbc_connection.set_options(**{setting: "false"})
        assert connection.adbc_connection.get_option(setting) == "false"
        cursor.execute(first)
        assert pyarrow.types.is_floating(cursor.fetch_arrow_table().schema.field("time").type)
        connection.adbc_connection.set_options(**{setting: "true"})
    prefix = setting.removesuffix("hyperslab.decode")
    refused(lambda: connection.adbc_connection.set_options(**{prefix + "hyperslab.nothing": "1"}), "")
    refused(lambda: connection.adbc_connection.set_options(**{prefix + "datafusion.runtime.memory_limit": "1G"}), "")


def frames(connection):
    query = "SELECT lat, max(tas) AS most FROM 'data/tas.nc' GROUP BY lat ORDER BY lat"
    assert len(pandas.read_sql(query, connection)) == 16
    assert polars.read_database(query, connection).shape == (16, 2)


def reflected(address, user, password):
    """By SQLAlchemy, whose dialect wants to be imported."""
    import flightsql.sqlalchemy
    from sqlalchemy import create_engine, inspect, text

    engine = create_engine(f"datafusion+flightsql://{user}:{password}@{address}?insecure=true")
    with engine.connect() as connection:
        query = "SELECT lat, avg(tas) FROM 'data/tas.nc' GROUP BY lat ORDER BY lat LIMIT 2"
        assert [row[0] for row in connection.execute(text(query))] == [-84.375, -73.125]
    tables = inspect(engine)
    assert "data/tas.nc" in tables.get_schema_names()
    columns = tables.get_columns("tas", schema="data/tas.nc")
    assert [column["name"] for column in columns] == ["time", "lat", "lon", "tas"]


def refused(call, complaint):
    try:
        call()
    except Exception as error:
        assert complaint in str(error), error
    else:
        raise AssertionError(f"it should be refused: {complaint}")


if __name__ == "__main__":
    main(*sys.argv[1:])
