SELECT format('id %%s is stored %%s times', trade_id, count(*))
FROM trades WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
GROUP BY trade_id HAVING count(*) > 1 LIMIT 20
