-- How many cells and days are hotter than 303 K in each month of the year. A range of one variable is decided on the
-- stored numbers, while they are counted.

SELECT month(time) AS month, count(*) AS hot
FROM 'sql-examples/data/tas.nc'
WHERE tas > 303
GROUP BY month
ORDER BY month;

--> [1, 1237]
--> [2, 1002]
--> [3, 1057]
--> [4, 617]
--> [5, 804]
--> [6, 1254]
--> [7, 1537]
--> [8, 1371]
--> [9, 912]
--> [10, 733]
--> [11, 1113]
--> [12, 1221]
