SELECT instrument_id FROM instruments WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR NO KEY UPDATE
