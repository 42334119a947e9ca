-- What was asked for, what the venues are known to have, and who vouches for an explanation.

-- Accounted for is what was asked for: the ids that a load was told to bring, and everything since the live stream began.
ALTER TABLE trade_coverage
    ADD COLUMN asked     int8multirange NOT NULL DEFAULT '{}',
    ADD COLUMN live_from bigint;  -- first id of the live stream; NULL: not streamed
-- What is there was accounted for from its first id to its last; a stream goes on from there.
UPDATE trade_coverage
SET asked = int8multirange(range_merge(ids)), live_from = upper(ids) WHERE NOT isempty(ids);

-- The same for hours of quotes.
CREATE TABLE quote_requests (
    instrument_id integer PRIMARY KEY REFERENCES instruments,
    hours         tstzmultirange NOT NULL DEFAULT '{}',
    follow_from   timestamptz  -- from here on every hour up to now; NULL: nobody follows
);
-- Hours that are there without a longer pause than a week belong to one request.
INSERT INTO quote_requests (instrument_id, hours)
SELECT instrument_id,
       range_agg(tstzrange(hour, CASE WHEN following <= hour + INTERVAL '7 days' THEN following ELSE hour + INTERVAL '1 hour' END))
FROM (
    SELECT instrument_id, hour, lead(hour) OVER (PARTITION BY instrument_id ORDER BY hour) AS following FROM quote_hours
) h GROUP BY 1;

-- The newest trade that each venue is known to have, from its frames (over control/heads) or its REST answers. Written by
-- the gap filler, whatever becomes of the trades' own topics. Times are the database's clock.
CREATE TABLE trade_heads (
    instrument_id integer     PRIMARY KEY REFERENCES instruments,
    newest_id     bigint      NOT NULL CHECK (newest_id >= 0 AND newest_id < 4611686018427387904),
    seen_at       timestamptz NOT NULL,  -- when newest_id was first seen
    settled_id    bigint      NOT NULL,  -- the newest id that was seen long enough ago to be stored by now
    checked_at    timestamptz NOT NULL,  -- the moment for which a witness said that there is nothing newer than settled_id
    witness       text        NOT NULL CHECK (witness IN ('stream', 'rest'))
);

-- A finding that comes in a message is a claim. It explains nothing until who looked at the venue signs it.
ALTER TABLE holes ADD COLUMN signed_at timestamptz;
UPDATE holes SET signed_at = confirmed_at;
DELETE FROM holes WHERE first_id < 0 OR last_id >= 4611686018427387904;
ALTER TABLE holes
    ADD CONSTRAINT holes_ids_range CHECK (first_id >= 0 AND last_id < 4611686018427387904),
    ADD CONSTRAINT holes_reason CHECK (reason IN ('venue_has_none', 'too_old', 'rejected', 'unreachable', 'not_listening'));
-- By reason: the same ids may be claimed for one and found for another.
DROP INDEX holes_ids;
CREATE UNIQUE INDEX holes_ids ON holes (instrument_id, first_id, last_id, reason) WHERE first_id IS NOT NULL;
DROP VIEW trade_gaps CASCADE;
