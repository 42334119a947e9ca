SELECT format('quote %%s of %%s is stored %%s times', seq, ts, count(*))
FROM quotes WHERE instrument_id = %(instrument)s AND ts >= %(from)s AND ts < %(to)s
GROUP BY ts, seq HAVING count(*) > 1 LIMIT 20
