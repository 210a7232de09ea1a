-- The global mean of every day, weighted by the cosine of latitude. Some cells of these days are missing: they have
-- no weight either.

SELECT time, sum(tas * cos(radians(lat))) / sum(CASE WHEN tas IS NOT NULL THEN cos(radians(lat)) END) AS tas
FROM 'sql-examples/data/tas.nc'
WHERE time >= '2003-02-05' AND time < '2003-02-10'
GROUP BY time
ORDER BY time;

--> ["2003-02-05T12:00:00", 283.6438828497909]
--> ["2003-02-06T12:00:00", 283.6480698224186]
--> ["2003-02-07T12:00:00", 283.63290834779565]
--> ["2003-02-08T12:00:00", 283.66103981010286]
--> ["2003-02-09T12:00:00", 283.7956956658563]
