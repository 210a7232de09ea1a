-- The range of temperatures in each season of each year.

SELECT year(time) AS year, season(time) AS season, max(tas) - min(tas) AS range
FROM 'sql-examples/data/tas.nc'
GROUP BY 1, 2
ORDER BY 1, 2;

--> [2002, "DJF", 78.5]
--> [2002, "JJA", 62.0]
--> [2002, "MAM", 69.5]
--> [2002, "SON", 68.0]
--> [2003, "DJF", 76.0]
--> [2003, "JJA", 62.0]
--> [2003, "MAM", 73.0]
--> [2003, "SON", 66.0]
--> [2004, "DJF", 80.5]
--> [2004, "JJA", 61.5]
--> [2004, "MAM", 70.0]
--> [2004, "SON", 67.5]
