SELECT instrument_id FROM trade_coverage WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR UPDATE
