-- Lock instruments for a writer, in the order of their ids, so that writers cannot deadlock.
SELECT instrument_id, venue, product_id, price_scale, asset_class
FROM instruments WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR NO KEY UPDATE
