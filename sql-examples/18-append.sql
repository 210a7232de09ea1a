-- Appending to a cube: a forecast for the last two days of the next year (that they are like those of this one). Either
-- both of them are there afterwards, for every reader, or neither; what the cube was before stays readable.

INSERT INTO 'sql-examples/data/tas.zarr' BY NAME
SELECT time + INTERVAL '365 days' AS time, lat, lon, tas, pr
FROM 'sql-examples/data/tas.zarr'
WHERE time >= '2004-12-30';

SELECT CAST(now.time AS DATE) AS day, round(avg(now.tas), 4) AS tas, before.days
FROM 'sql-examples/data/tas.zarr' AS now
CROSS JOIN (SELECT count(DISTINCT time) AS days FROM 'sql-examples/data/tas.zarr' FOR VERSION AS OF 0) AS before
WHERE now.time >= '2005-01-01'
GROUP BY now.time, before.days
ORDER BY day;

--> ["2005-12-30", 276.0404, 1095]
--> ["2005-12-31", 276.0091, 1095]
