-- A box on a curvilinear grid, where latitude and longitude are two-dimensional variables: the predicate
-- is a mask on the plane (y, x), and chunks without a cell of the mask are not read.

SELECT count(*) AS cells, avg(sst) AS sst
FROM 'sql-examples/data/ocean.nc'
WHERE nav_lat BETWEEN 40 AND 50 AND nav_lon BETWEEN -40 AND -20;

--> [660, 17.697575746883047]
