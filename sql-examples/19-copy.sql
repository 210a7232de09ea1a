-- A query as a new cube: the climatology of three years, packed, on the grid of what it was made of.

COPY (
  SELECT month(time) AS month, lat, lon, avg(tas) AS tas
  FROM 'sql-examples/data/tas.nc'
  GROUP BY 1, 2, 3
) TO 'sql-examples/data/new.zarr'
OPTIONS (dims 'month,lat,lon', 'tas.dtype' 'int16', 'tas.scale_factor' '0.01', 'tas.add_offset' '250', 'tas.attr.units' 'K');

SELECT month, count(*) AS cells, round(avg(tas), 3) AS mean, round(max(tas), 2) AS warmest
FROM 'sql-examples/data/new.zarr'
WHERE month IN (1, 7)
GROUP BY month
ORDER BY month;

--> [1, 384, 275.606, 303.3]
--> [7, 384, 282.732, 303.01]
