-- A map of trends, in kelvin a year, and of variability: where it warms most. Any aggregate function of the engine
-- makes a map; without ORDER BY and LIMIT there is a row for every cell.

SELECT lat, lon, regr_slope(tas, year(time)) AS trend, stddev(tas) AS spread
FROM 'sql-examples/data/tas.nc'
GROUP BY lat, lon
ORDER BY trend DESC
LIMIT 5;

--> [-5.625, 135.0, 0.9075342465753424, 5.119769723580234]
--> [5.625, 105.0, 0.8732876712328768, 4.661430609814022]
--> [16.875, 90.0, 0.8671232876712329, 5.375626198363265]
--> [5.625, 120.0, 0.8431506849315068, 4.433700621516852]
--> [-16.875, 150.0, 0.8404109589041096, 5.7449865158704405]
