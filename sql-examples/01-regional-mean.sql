-- The mean temperature of the tropics in one year. Only the chunks of that year are read:
-- EXPLAIN ANALYZE says how many, and why the others were not.

SELECT mean(tas)
FROM 'sql-examples/data/tas.nc'
WHERE time BETWEEN '2003-01-01' AND '2003-12-31 23:59:59' AND lat BETWEEN -30 AND 30;

--> [295.7755385552257]
