-- NumPy indices instead of coordinates: the first two time steps, latitudes 4 and 5, every third longitude.

SELECT count(*) AS cells, avg(tas) AS tas
FROM read_array('sql-examples/data/tas.nc', 'tas', '0:2, 4:6, ::3');

--> [32, 292.046875]
