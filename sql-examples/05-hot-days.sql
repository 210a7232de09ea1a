-- Where and how often it is hotter than 305 K. A predicate on data is evaluated block by block;
-- missing cells are NULL and never hot.

SELECT lat, count(*) AS days
FROM 'sql-examples/data/tas.nc'
WHERE tas > 305
GROUP BY lat
ORDER BY lat;

--> [-28.125, 30]
--> [-16.875, 592]
--> [-5.625, 1856]
--> [5.625, 1703]
--> [16.875, 604]
--> [28.125, 45]
