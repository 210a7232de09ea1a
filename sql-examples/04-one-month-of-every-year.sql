-- Julys: a predicate on any function of one dimension selects the indices, so a twelfth of the chunks is read.

SELECT year(time) AS year, avg(tas) AS july
FROM 'sql-examples/data/tas.nc'
WHERE month(time) = 7
GROUP BY year
ORDER BY year;

--> [2002, 282.59715221774195]
--> [2003, 282.732904905914]
--> [2004, 282.8656754032258]
