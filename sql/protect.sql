-- Revoke what PostgreSQL and TimescaleDB grant to everybody although nobody needs it here. Runs at every start, because
-- an update of the extension grants its new functions to everybody again. Needs a superuser: if the pipeline does not
-- connect as one, `scripts/doctor` asks to run this file with psql -f.
--
-- The extension's functions: TimescaleDB 2.19 lets a role that may only read drop a chunk through
-- _timescaledb_functions.drop_chunk. Functions that can change something are declared volatile, so of these everybody
-- keeps only the ones named here, which measure, show or convert; the tables' owner keeps them all.
DO $protect$
DECLARE
    one record;
BEGIN
    CREATE TEMP TABLE guarded ON COMMIT DROP AS
    SELECT p.oid, p.pronamespace = 'pg_catalog'::regnamespace AND p.proname LIKE 'pg\_%' AS is_lock
    FROM pg_proc p
    LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'timescaledb')
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^(lo_|loread$|lowrite$|pg_(try_)?advisory_)'
       OR d.objid IS NOT NULL AND (p.provolatile = 'v' OR p.prosecdef)
          AND p.pronamespace <> 'pg_catalog'::regnamespace
          AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
          AND p.proname <> ALL (ARRAY[
              'approximate_row_count', 'chunk_id_from_relid', 'chunk_status', 'chunks_detailed_size',
              'chunks_local_size', 'generate_uuid', 'get_approx_row_count', 'get_git_commit', 'get_os_info',
              'get_partition_for_key', 'get_partition_hash', 'hypertable_approximate_detailed_size',
              'hypertable_approximate_size', 'hypertable_detailed_size', 'hypertable_index_size',
              'hypertable_local_size', 'hypertable_size', 'indexes_local_size', 'interpolate',
              'interval_to_usec', 'locf', 'range_value_to_pretty', 'relation_approximate_size',
              'relation_size', 'show_chunk', 'show_policies', 'show_tablespaces', 'subtract_integer_from_now',
              'time_bucket_gapfill', 'time_to_internal', 'to_date', 'to_interval', 'to_timestamp',
              'to_timestamp_without_timezone', 'to_unix_microseconds', 'tsl_loaded']);
    FOR one IN SELECT oid::regprocedure AS routine FROM guarded WHERE has_function_privilege('public', oid, 'EXECUTE') LOOP
        EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', one.routine);
    END LOOP;
    FOR one IN
        SELECT g.oid::regprocedure AS routine, needs.role
        FROM guarded g
        JOIN (SELECT pg_get_userbyid(datdba) AS role, true AS all_of_them FROM pg_database WHERE datname = current_database()
              UNION SELECT pg_get_userbyid(relowner), true FROM pg_class WHERE oid = to_regclass('trades')
              -- programs take turns by these locks
              UNION SELECT rolname, false FROM pg_roles WHERE rolname = 'market_data_writer') needs
          ON needs.all_of_them OR g.is_lock
        WHERE NOT has_function_privilege(needs.role, g.oid, 'EXECUTE')
    LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', one.routine, one.role);
    END LOOP;
    IF has_database_privilege('public', current_database(), 'TEMPORARY') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
    -- Rights on a database are in no dump of it: after a restore the writers would have none.
    FOR one IN
        SELECT rolname AS role, privilege
        FROM pg_roles JOIN (VALUES ('market_data_writer', 'TEMPORARY'), ('market_data_writer', 'CONNECT'),
                                   ('market_data_reader', 'CONNECT')) AS needs (role, privilege) ON role = rolname
        WHERE NOT has_database_privilege(rolname, current_database(), privilege)
    LOOP
        EXECUTE format('GRANT %s ON DATABASE %I TO %I', one.privilege, current_database(), one.role);
    END LOOP;
END
$protect$;
