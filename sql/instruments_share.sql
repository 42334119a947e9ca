-- Lock instruments against deletion only, which does not block other writers.
SELECT instrument_id, venue, product_id FROM instruments WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR KEY SHARE
