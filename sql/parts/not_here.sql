-- The intervals of which the table does not have all ticks: those that only files hold, where the table has at most
-- later arrivals, and dropped ones, where it has what was loaded again. None if files stand in for the table
-- (`complete`).
not_here AS MATERIALIZED (
    SELECT from_ts, to_ts FROM archive_only
    WHERE instrument_id = %(instrument)s AND kind = %(kind)s AND NOT %(complete)s
    UNION ALL
    SELECT '-infinity', dropped_before FROM instruments
    WHERE instrument_id = %(instrument)s AND dropped_before IS NOT NULL AND NOT %(complete)s
)
