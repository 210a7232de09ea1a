-- A query as a new cube: the climatology of a decade, packed, with the grid and attributes of what it was made of.

COPY (
  SELECT month(time) AS month, lat, lon, avg(tas) AS tas
  FROM 'sql-examples/data/tas.nc'
  GROUP BY month, lat, lon
) TO 'sql-examples/data/new.zarr'
OPTIONS (dims 'month,lat,lon', 'tas.dtype' 'int16', 'tas.scale_factor' '0.01', 'tas.add_offset' '250', 'tas.attr.units' 'K');

SELECT month, count(*) AS cells, abs(avg(tas) - (
  SELECT avg(tas) FROM 'sql-examples/data/tas.nc' WHERE month(time) = new.month
)) < 0.005 AS alike
FROM 'sql-examples/data/new.zarr' AS new
WHERE month IN (1, 7)
GROUP BY month
ORDER BY month;

--> [1, 384, true]
--> [7, 384, true]
