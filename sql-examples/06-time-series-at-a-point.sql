-- The first days of the series of one grid cell. Dimensions that predicates reduce to one index are
-- constant, so the rows come out in order of time without sorting.

SELECT time, tas
FROM 'sql-examples/data/tas.nc'
WHERE lat = 50.625 AND lon = 15 AND time < '2002-01-06'
ORDER BY time;

--> ["2002-01-01T12:00:00", 259.0]
--> ["2002-01-02T12:00:00", 258.0]
--> ["2002-01-03T12:00:00", 257.5]
--> ["2002-01-04T12:00:00", 258.0]
--> ["2002-01-05T12:00:00", 258.5]
