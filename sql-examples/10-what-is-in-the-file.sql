-- The variables of a dataset with their dimensions and units.

SELECT variable, role, array_to_string(dimensions, ' ') AS dimensions, units
FROM array_info('sql-examples/data/tas.nc')
WHERE role <> 'bounds'
ORDER BY variable;

--> ["area", "data", "lat lon", "m2"]
--> ["lat", "coordinate", "lat", "degrees_north"]
--> ["lon", "coordinate", "lon", "degrees_east"]
--> ["pr", "data", "time lat lon", "mm d-1"]
--> ["tas", "data", "time lat lon", "K"]
--> ["time", "coordinate", "time", "days since 2001-01-01"]
