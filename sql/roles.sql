-- Roles without login, to be granted to users of the database: GRANT market_data_writer TO somebody. Runs again
-- whenever tables or views change. Skipped by a user who may not create roles: the pipeline does not need them.
--
-- market_data_writer: what the consumers do, and no more. It adds to ticks and ledgers; it deletes only an hour of
-- quotes that the vendor corrected, its candles, a consensus that changed, facts about a venue and explanations proven
-- wrong. It can neither create, alter nor truncate a table, nor drop a chunk. market_data_reader: for people and
-- dashboards. Reads everything, writes nothing, not even temporary tables. What the extension and PostgreSQL grant to
-- everybody is revoked in protect.sql.
DO $roles$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['market_data_writer', 'market_data_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this server was brought up to date at the same moment
            END;
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', name);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA public TO %I', name);
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
    END LOOP;
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO market_data_writer', current_database());

    GRANT INSERT ON ALL TABLES IN SCHEMA public TO market_data_writer;
    REVOKE INSERT ON migrations, views_text, watchlist FROM market_data_writer;
    GRANT UPDATE ON
        instruments, trade_coverage, quote_hours, holes, trade_candle_1m, trade_candle_1h, quote_candle_1m, quote_candle_1h,
        exchange_candles, exchange_candle_state, consensus_quorum, consensus_candle, consensus_candle_1h
    TO market_data_writer;
    GRANT DELETE ON
        quotes, holes, quote_candle_1m, quote_candle_1h, consensus_candle, consensus_candle_1h
    TO market_data_writer;
    -- tables of later migrations, each with the rights beyond INSERT
    IF to_regclass('trade_heads') IS NOT NULL THEN
        GRANT UPDATE, DELETE ON trade_heads TO market_data_writer;
    END IF;
    IF to_regclass('quote_requests') IS NOT NULL THEN
        GRANT UPDATE ON quote_requests TO market_data_writer;
    END IF;
    IF to_regclass('trade_windows') IS NOT NULL THEN
        GRANT UPDATE ON trade_windows TO market_data_writer;
    END IF;
    IF to_regclass('quote_looks') IS NOT NULL THEN
        GRANT UPDATE ON quote_looks TO market_data_writer;
    END IF;
    IF to_regclass('live_delays') IS NOT NULL THEN
        GRANT UPDATE ON live_delays, clock_offsets TO market_data_writer;
    END IF;
    -- The tables' owner writes the archive. A writer counts how often the rows of a span changed, and adds files of
    -- whole days that it wrote itself (ARCHIVE_DIRECT_DAYS); it neither ends nor removes one.
    IF to_regclass('archive_spans') IS NOT NULL THEN
        GRANT UPDATE ON archive_spans, lake.ducklake_table_stats TO market_data_writer;
        GRANT INSERT ON
            lake.ducklake_data_file, lake.ducklake_file_column_stats, lake.ducklake_snapshot,
            lake.ducklake_snapshot_changes
        TO market_data_writer;
        GRANT USAGE ON SCHEMA lake TO market_data_writer, market_data_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA lake TO market_data_writer, market_data_reader;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'the roles market_data_writer and market_data_reader are left out: %', SQLERRM;
END
$roles$;
