-- The bias of a model: two datasets compared cell by cell where both have one. Their chunks and the order of their
-- latitudes differ, and the model has one summer of three years; the join is one scan, and reads no more than that.

SELECT seen.lat, avg(model.tas - seen.tas) AS bias, sqrt(avg(power(model.tas - seen.tas, 2))) AS rmse
FROM 'sql-examples/data/tas.nc' AS seen
JOIN 'sql-examples/data/model.nc' AS model USING (time, lat, lon)
WHERE seen.lat BETWEEN -30 AND 30
GROUP BY seen.lat
ORDER BY seen.lat;

--> [-28.125, -1.0872961956521738, 1.8561934249417817]
--> [-16.875, -0.6736865942028986, 1.8968682475466567]
--> [-5.625, -0.19644474637681159, 1.8883057474928397]
--> [5.625, 0.23233695652173914, 1.8453421337463982]
--> [16.875, 0.5884284420289855, 1.850420107509471]
--> [28.125, 1.0557065217391304, 1.8676334760130633]
