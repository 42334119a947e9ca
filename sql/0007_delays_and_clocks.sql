-- What was measured of each day's live stream, for its certificate.

-- Live trades by how long after the venue's own time they came, our clock less the venue's, so the clocks' difference is in it.
-- Steps of an eighth of a doubling: p50 and p99 are exact to 9 %.
CREATE TABLE live_delays (
    instrument_id integer NOT NULL REFERENCES instruments,
    day           date    NOT NULL,  -- of the trade, UTC
    up_to_ms      integer NOT NULL CHECK (up_to_ms >= 0),  -- 0: not later than the venue's time
    trades        bigint  NOT NULL CHECK (trades > 0),
    PRIMARY KEY (instrument_id, day, up_to_ms)
);

-- The venue's clock less ours, as its live program measured it in frames and answers.
CREATE TABLE clock_offsets (
    instrument_id integer NOT NULL REFERENCES instruments,
    day           date    NOT NULL,  -- UTC, by the database's clock
    least_ms      integer NOT NULL,
    greatest_ms   integer NOT NULL,
    total_ms      bigint  NOT NULL,
    looks         bigint  NOT NULL CHECK (looks > 0),
    PRIMARY KEY (instrument_id, day)
);
