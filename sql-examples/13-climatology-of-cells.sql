-- The climatology of cells: the mean January and July at every high latitude of one meridian. Which month a time
-- belongs to is worked out once a time step, and cells are added up where their chunks are decoded: no rows are made.

SELECT month(time) AS month, lat, avg(tas) AS tas
FROM 'sql-examples/data/tas.nc'
WHERE lon = 15 AND lat > 60 AND month(time) IN (1, 7)
GROUP BY 1, 2
ORDER BY 1, 2;

--> [1, 61.875, 249.25806451612902]
--> [1, 73.125, 241.41935483870967]
--> [1, 84.375, 237.86559139784947]
--> [7, 61.875, 284.14516129032256]
--> [7, 73.125, 280.06451612903226]
--> [7, 84.375, 277.2795698924731]
