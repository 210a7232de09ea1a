-- Datasets may be far away: 's3://bucket/tas.zarr', 'https://host/tas.nc'. What has been read of them is kept; this says how well
-- that does. Nothing has been read from the network here.

SELECT name, value, meaning
FROM hyperslab.cache
WHERE name = 'damaged';

--> ["damaged", 0, "entries on disk that were damaged, and fetched again"]
