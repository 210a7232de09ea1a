-- The northern summers as a directory of Blosc2 arrays: one file for each variable and each coordinate, which python-blosc2
-- opens one by one, or all of them as a tree (`blosc2.open("summers.b2d")["/tas"]`).

COPY (
  SELECT time, lat, lon, tas
  FROM 'sql-examples/data/tas.nc'
  WHERE month(time) IN (6, 7, 8) AND lat > 0
) TO 'sql-examples/data/summers.b2d'
OPTIONS (chunks '92,8,24', codec 'blosc:zstd:9:bitshuffle', 'attr.title' 'northern summers');

SELECT year(time) AS year, count(tas) AS cells, round(avg(tas), 3) AS mean, round(max(tas), 2) AS warmest
FROM 'sql-examples/data/summers.b2d'
GROUP BY 1
ORDER BY 1;

--> [2002, 17664, 289.055, 313.0]
--> [2003, 17664, 289.19, 313.0]
--> [2004, 17664, 289.324, 312.5]
