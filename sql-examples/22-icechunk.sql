-- A repository of Icechunk keeps every version of a cube: the mean of each day now, as it was released under the tag v1, and
-- as it is in a branch that corrects it. The day that is added first is a commit to the main branch.

INSERT INTO 'sql-examples/data/cube.icechunk'
SELECT time + INTERVAL '8 days', lat, lon, tas + 160
FROM 'sql-examples/data/cube.icechunk'
WHERE time = '2000-01-01';

SELECT CAST(now.time AS DATE) AS day, avg(now.tas) AS now, avg(old.tas) AS released, avg(dev.tas) AS corrected
FROM 'sql-examples/data/cube.icechunk' AS now
LEFT JOIN 'sql-examples/data/cube.icechunk' FOR VERSION AS OF 'v1' AS old USING (time, lat, lon)
LEFT JOIN 'sql-examples/data/cube.icechunk#branch=dev' AS dev USING (time, lat, lon)
GROUP BY now.time
HAVING now.time >= '2000-01-05'
ORDER BY day;

--> ["2000-01-05", 89.5, 89.5, 1089.5]
--> ["2000-01-06", 109.5, 109.5, 1109.5]
--> ["2000-01-07", 129.5, null, null]
--> ["2000-01-08", 149.5, null, null]
--> ["2000-01-09", 169.5, null, null]
