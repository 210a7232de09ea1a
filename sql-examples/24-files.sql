-- A file for each year, read as one table along time; an INSERT adds the next one.

COPY (SELECT * FROM 'sql-examples/data/tas.nc' WHERE year(time) = 2002) TO 'sql-examples/data/years_2002.nc';
COPY (SELECT * FROM 'sql-examples/data/tas.nc' WHERE year(time) = 2003) TO 'sql-examples/data/years_2003.nc';

INSERT INTO 'sql-examples/data/years_*.nc'
SELECT * FROM 'sql-examples/data/tas.nc' WHERE year(time) = 2004;

SELECT year(time) AS year, count(DISTINCT time) AS days, round(avg(tas), 3) AS mean
FROM 'sql-examples/data/years_*.nc' GROUP BY year(time) ORDER BY year;

--> [2002, 365, 279.066]
--> [2003, 365, 279.198]
--> [2004, 365, 279.334]
