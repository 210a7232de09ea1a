-- Global means weighted by cell area. area(lat, lon) has fewer dimensions than tas(time, lat, lon)
-- and is a column all the same: no join is needed.

SELECT year(time) AS year, sum(tas * area) / sum(CASE WHEN tas IS NOT NULL THEN area END) AS tas
FROM 'sql-examples/data/tas.nc'
GROUP BY year
ORDER BY year;

--> [2002, 286.02063891709315]
--> [2003, 286.1536185849937]
--> [2004, 286.28823687608684]
