-- The summers of the Arctic as a netCDF-4 file for other programs; time can grow, and keeps its calendar.

COPY (
  SELECT time, lat, lon, tas - 273.15 AS celsius
  FROM 'sql-examples/data/tas.nc'
  WHERE lat > 60 AND month(time) IN (6, 7, 8)
) TO 'sql-examples/data/summers.nc'
OPTIONS (chunks '92,3,24', codec 'shuffle,zlib:5', 'celsius.attr.units' 'degC', 'attr.title' 'Arctic summers');

SELECT year(time) AS year, count(*) AS cells, round(avg(celsius), 3) AS mean, round(max(celsius), 2) AS warmest
FROM 'sql-examples/data/summers.nc'
GROUP BY 1
ORDER BY year;

--> [2002, 6624, 4.951, 15.85]
--> [2003, 6624, 5.086, 16.85]
--> [2004, 6624, 5.216, 16.85]
