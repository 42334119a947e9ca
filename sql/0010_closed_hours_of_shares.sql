-- Hours of shares outside the US were stored as closed by New York's hours. The week alone closes them
-- (venues/market_hours.py), so nobody has asked the vendor for these: they are missing until somebody does.
DELETE FROM quote_hours h USING instruments i
WHERE h.instrument_id = i.instrument_id AND h.state = 'closed' AND i.asset_class = 'stock'
  AND i.product_id NOT LIKE '%US-USD'
  -- not from Friday 18:00 to Sunday 16:00, New York
  AND NOT extract(isodow FROM h.hour AT TIME ZONE 'America/New_York') * 24
          + extract(hour FROM h.hour AT TIME ZONE 'America/New_York') BETWEEN 5 * 24 + 18 AND 7 * 24 + 15;
