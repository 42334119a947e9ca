-- The archive: which spans of time lie in Parquet files, which versions of these there were, and the catalog by which
-- DuckDB and others find them (schema lake, format DuckLake 1.0). See docs/archive.md.

-- A span is a UTC day, or a month (candles, thin instruments). Spans of one instrument and kind do not overlap. A row is
-- there as soon as the archive works on the span; writers count every change to its rows in `changes`, in the change's own
-- transaction, so a file is known to be up to date or not, whatever the clocks say.
CREATE TABLE archive_spans (
    instrument_id    integer     NOT NULL REFERENCES instruments,
    kind             text        NOT NULL CHECK (kind IN ('trades', 'quotes', 'exchange_candles')),  -- the table
    from_ts          timestamptz NOT NULL,
    to_ts            timestamptz NOT NULL,  -- excluded
    changes          bigint      NOT NULL DEFAULT 0 CHECK (changes >= 0),
    archived_changes bigint,                -- `changes` of the rows that the current file holds; NULL: not archived yet
    in_tables        boolean     NOT NULL DEFAULT true,  -- false: retention dropped the rows, the file alone has them
    replaced         tstzmultirange NOT NULL DEFAULT '{}',  -- hours of quotes of which the table has a later version
    pinned_until     timestamptz,           -- brought back into the tables, to be kept there until then
    writing          text,                  -- path of a file in the making: rubbish when its writer is gone
    PRIMARY KEY (instrument_id, kind, from_ts),
    CHECK (extract(epoch FROM from_ts)::bigint % 86400 = 0 AND extract(epoch FROM to_ts)::bigint % 86400 = 0),
    CHECK (to_ts > from_ts AND to_ts <= from_ts + INTERVAL '31 days'),
    CHECK (archived_changes <= changes),
    CHECK (in_tables OR archived_changes IS NOT NULL),
    CHECK (NOT in_tables OR replaced = '{}')
);
-- Finds the span of a moment: the first that ends after it.
CREATE UNIQUE INDEX archive_spans_end ON archive_spans (instrument_id, kind, to_ts);

-- Every version of every file. The current one of a span has no `ended_at`.
CREATE TABLE archive_files (
    file_id       bigint      PRIMARY KEY,  -- data_file_id in the catalog
    instrument_id integer     NOT NULL,
    kind          text        NOT NULL,
    from_ts       timestamptz NOT NULL,
    revision      integer     NOT NULL CHECK (revision >= 0),
    path          text        NOT NULL UNIQUE,  -- below ARCHIVE_PATH
    rows          bigint      NOT NULL CHECK (rows > 0),
    bytes         bigint      NOT NULL CHECK (bytes > 0),
    hash          text        NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),  -- over the rows, see docs/archive.md
    first_ts      timestamptz NOT NULL,
    last_ts       timestamptz NOT NULL,
    first_id      bigint,                       -- of trades
    last_id       bigint,
    archived_at   timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,                  -- there is a newer version, or there are no rows any more
    deleted_at    timestamptz,                  -- the file is gone, a grace time after
    UNIQUE (instrument_id, kind, from_ts, revision),
    FOREIGN KEY (instrument_id, kind, from_ts) REFERENCES archive_spans,
    CHECK (first_ts <= last_ts),
    CHECK (ended_at IS NOT NULL OR deleted_at IS NULL),
    CHECK ((first_id IS NULL) = (last_id IS NULL) AND (first_id IS NULL) = (kind <> 'trades') AND first_id <= last_id)
);
CREATE UNIQUE INDEX archive_files_current ON archive_files (instrument_id, kind, from_ts) WHERE ended_at IS NULL;

-- The catalog, as DuckDB 1.5.5 with its extension ducklake 1.0 creates it; tests/archive compares the two. Programs write
-- here by SQL, under an advisory lock; readers attach it READ_ONLY.
CREATE SCHEMA lake;
CREATE TABLE lake.ducklake_metadata (key varchar NOT NULL, value varchar NOT NULL, scope varchar, scope_id bigint);
CREATE TABLE lake.ducklake_snapshot (
    snapshot_id bigint PRIMARY KEY, snapshot_time timestamptz, schema_version bigint, next_catalog_id bigint,
    next_file_id bigint
);
CREATE TABLE lake.ducklake_snapshot_changes (
    snapshot_id bigint PRIMARY KEY, changes_made varchar, author varchar, commit_message varchar,
    commit_extra_info varchar
);
CREATE TABLE lake.ducklake_schema (
    schema_id bigint PRIMARY KEY, schema_uuid uuid, begin_snapshot bigint, end_snapshot bigint, schema_name varchar,
    path varchar, path_is_relative boolean
);
CREATE TABLE lake.ducklake_table (
    table_id bigint, table_uuid uuid, begin_snapshot bigint, end_snapshot bigint, schema_id bigint,
    table_name varchar, path varchar, path_is_relative boolean
);
CREATE TABLE lake.ducklake_view (
    view_id bigint, view_uuid uuid, begin_snapshot bigint, end_snapshot bigint, schema_id bigint, view_name varchar,
    dialect varchar, sql varchar, column_aliases varchar
);
CREATE TABLE lake.ducklake_tag (
    object_id bigint, begin_snapshot bigint, end_snapshot bigint, key varchar, value varchar
);
CREATE TABLE lake.ducklake_column_tag (
    table_id bigint, column_id bigint, begin_snapshot bigint, end_snapshot bigint, key varchar, value varchar
);
CREATE TABLE lake.ducklake_data_file (
    data_file_id bigint PRIMARY KEY, table_id bigint, begin_snapshot bigint, end_snapshot bigint, file_order bigint,
    path varchar, path_is_relative boolean, file_format varchar, record_count bigint, file_size_bytes bigint,
    footer_size bigint, row_id_start bigint, partition_id bigint, encryption_key varchar, mapping_id bigint,
    partial_max bigint
);
CREATE TABLE lake.ducklake_file_column_stats (
    data_file_id bigint, table_id bigint, column_id bigint, column_size_bytes bigint, value_count bigint,
    null_count bigint, min_value varchar, max_value varchar, contains_nan boolean, extra_stats varchar
);
CREATE TABLE lake.ducklake_file_variant_stats (
    data_file_id bigint, table_id bigint, column_id bigint, variant_path varchar, shredded_type varchar,
    column_size_bytes bigint, value_count bigint, null_count bigint, min_value varchar, max_value varchar,
    contains_nan boolean, extra_stats varchar
);
CREATE TABLE lake.ducklake_delete_file (
    delete_file_id bigint PRIMARY KEY, table_id bigint, begin_snapshot bigint, end_snapshot bigint,
    data_file_id bigint, path varchar, path_is_relative boolean, format varchar, delete_count bigint,
    file_size_bytes bigint, footer_size bigint, encryption_key varchar, partial_max bigint
);
CREATE TABLE lake.ducklake_column (
    column_id bigint, begin_snapshot bigint, end_snapshot bigint, table_id bigint, column_order bigint,
    column_name varchar, column_type varchar, initial_default varchar, default_value varchar, nulls_allowed boolean,
    parent_column bigint, default_value_type varchar, default_value_dialect varchar
);
CREATE TABLE lake.ducklake_table_stats (
    table_id bigint, record_count bigint, next_row_id bigint, file_size_bytes bigint
);
CREATE TABLE lake.ducklake_table_column_stats (
    table_id bigint, column_id bigint, contains_null boolean, contains_nan boolean, min_value varchar,
    max_value varchar, extra_stats varchar
);
CREATE TABLE lake.ducklake_partition_info (
    partition_id bigint, table_id bigint, begin_snapshot bigint, end_snapshot bigint
);
CREATE TABLE lake.ducklake_partition_column (
    partition_id bigint, table_id bigint, partition_key_index bigint, column_id bigint, transform varchar
);
CREATE TABLE lake.ducklake_file_partition_value (
    data_file_id bigint, table_id bigint, partition_key_index bigint, partition_value varchar
);
CREATE TABLE lake.ducklake_files_scheduled_for_deletion (
    data_file_id bigint, path varchar, path_is_relative boolean, schedule_start timestamptz
);
CREATE TABLE lake.ducklake_inlined_data_tables (table_id bigint, table_name varchar, schema_version bigint);
CREATE TABLE lake.ducklake_column_mapping (mapping_id bigint, table_id bigint, type varchar);
CREATE TABLE lake.ducklake_name_mapping (
    mapping_id bigint, column_id bigint, source_name varchar, target_field_id bigint, parent_column bigint,
    is_partition boolean
);
CREATE TABLE lake.ducklake_schema_versions (begin_snapshot bigint, schema_version bigint, table_id bigint);
CREATE TABLE lake.ducklake_macro (
    schema_id bigint, macro_id bigint, macro_name varchar, begin_snapshot bigint, end_snapshot bigint
);
CREATE TABLE lake.ducklake_macro_impl (macro_id bigint, impl_id bigint, dialect varchar, sql varchar, type varchar);
CREATE TABLE lake.ducklake_macro_parameters (
    macro_id bigint, impl_id bigint, column_id bigint, parameter_name varchar, parameter_type varchar,
    default_value varchar, default_value_type varchar
);
CREATE TABLE lake.ducklake_sort_info (sort_id bigint, table_id bigint, begin_snapshot bigint, end_snapshot bigint);
CREATE TABLE lake.ducklake_sort_expression (
    sort_id bigint, table_id bigint, sort_key_index bigint, expression varchar, dialect varchar,
    sort_direction varchar, null_order varchar
);
-- DuckDB reads these whole; we look for one file.
CREATE INDEX file_column_stats_file ON lake.ducklake_file_column_stats (data_file_id);

-- Three tables, of which the columns (and the field ids of the files) are listed in pipeline/archive/layout.py. Where the
-- files lie (data_path) is said by the program at its start.
INSERT INTO lake.ducklake_metadata (key, value) VALUES ('version', '1.0'), ('created_by', 'market-data'), ('encrypted', 'false');
INSERT INTO lake.ducklake_snapshot VALUES (0, now(), 0, 1, 0), (1, now(), 1, 4, 0);
INSERT INTO lake.ducklake_snapshot_changes (snapshot_id, changes_made) VALUES
    (0, 'created_schema:"main"'),
    (1, 'created_table:"main"."trades",created_table:"main"."quotes",created_table:"main"."exchange_candles"');
INSERT INTO lake.ducklake_schema VALUES (0, gen_random_uuid(), 0, NULL, 'main', 'main/', true);
INSERT INTO lake.ducklake_table VALUES
    (1, gen_random_uuid(), 1, NULL, 0, 'trades', 'trades/', true),
    (2, gen_random_uuid(), 1, NULL, 0, 'quotes', 'quotes/', true),
    (3, gen_random_uuid(), 1, NULL, 0, 'exchange_candles', 'exchange_candles/', true);
INSERT INTO lake.ducklake_schema_versions VALUES (1, 1, 1), (1, 1, 2), (1, 1, 3);
INSERT INTO lake.ducklake_table_stats VALUES (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0);
INSERT INTO lake.ducklake_column
SELECT place, 1, NULL, table_id, place, name, type, NULL, 'NULL', true, NULL, 'literal', 'duckdb'
FROM (VALUES
    (1, ARRAY['venue', 'product_id', 'ts', 'trade_id', 'price', 'quantity', 'taker_side', 'origin'],
        ARRAY['varchar', 'varchar', 'timestamptz', 'int64', 'decimal(38,18)', 'decimal(38,18)', 'varchar', 'varchar']),
    (2, ARRAY['venue', 'product_id', 'ts', 'seq', 'bid', 'ask', 'bid_size', 'ask_size'],
        ARRAY['varchar', 'varchar', 'timestamptz', 'int32', 'decimal(38,18)', 'decimal(38,18)', 'decimal(38,18)', 'decimal(38,18)']),
    (3, ARRAY['venue', 'product_id', 'bucket', 'granularity_s', 'open', 'high', 'low', 'close', 'volume', 'final', 'as_of'],
        ARRAY['varchar', 'varchar', 'timestamptz', 'int32', 'decimal(38,18)', 'decimal(38,18)', 'decimal(38,18)',
              'decimal(38,18)', 'decimal(38,18)', 'boolean', 'timestamptz'])
) AS t (table_id, names, types)
CROSS JOIN LATERAL unnest(names, types) WITH ORDINALITY AS c (name, type, place);
