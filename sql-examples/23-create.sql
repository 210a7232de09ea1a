-- An empty cube: its grid, packing and units are told, then it grows by INSERT. Here: the warmest day of each year by
-- latitude, in steps of half a degree.

CREATE EXTERNAL TABLE warmest (year BIGINT NOT NULL, lat DOUBLE NOT NULL, tas REAL)
STORED AS ZARR LOCATION 'sql-examples/data/warmest.zarr'
OPTIONS (dims 'year,lat', 'lat.values' '-84.375:84.375:11.25', 'tas.dtype' 'int16', 'tas.scale_factor' '0.5',
         'tas.add_offset' '250', 'tas.attr.units' 'K');

INSERT INTO warmest
SELECT year(time), lat, max(tas) FROM 'sql-examples/data/tas.nc' WHERE time < '2004-01-01' GROUP BY 1, 2;

INSERT INTO warmest
SELECT year(time), lat, max(tas) FROM 'sql-examples/data/tas.nc' WHERE time >= '2004-01-01' GROUP BY 1, 2;

SELECT year, count(*) AS bands, round(avg(tas), 3) AS mean, max(tas) AS most
FROM warmest GROUP BY year ORDER BY year;

--> [2002, 16, 295.625, 315.5]
--> [2003, 16, 295.688, 315.0]
--> [2004, 16, 296.375, 317.5]
