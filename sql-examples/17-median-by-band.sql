-- The median and the range of each band of 30 degrees of latitude, named by its southern edge. A median needs all
-- values of a band at once; their bands are still known without comparing latitudes row by row.

SELECT floor(lat / 30) * 30 AS band, median(CAST(tas AS DOUBLE)) AS median, max(tas) - min(tas) AS range
FROM 'sql-examples/data/tas.nc'
GROUP BY band
ORDER BY band;

--> [-90.0, 264.0, 30.0]
--> [-60.0, 280.0, 39.0]
--> [-30.0, 296.5, 46.0]
--> [0.0, 296.5, 43.5]
--> [30.0, 279.0, 51.0]
--> [60.0, 262.0, 53.0]
