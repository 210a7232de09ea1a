-- Anomalies against a climatology: each day finds the mean of its month, worked out once a time step.

SELECT year(daily.time) AS year, round(avg(daily.tas - mean.tas), 4) AS anomaly, max(daily.tas - mean.tas) AS largest
FROM 'sql-examples/data/tas.nc' AS daily
JOIN 'sql-examples/data/climatology.nc' AS mean
  ON month(daily.time) = mean.month AND daily.lat = mean.lat AND daily.lon = mean.lon
GROUP BY year
ORDER BY year;

--> [2002, -0.1337, 14.645172119140625]
--> [2003, -0.0001, 14.086029052734375]
--> [2004, 0.1338, 15.50537109375]
