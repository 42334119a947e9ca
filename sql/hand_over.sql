-- Hand objects that a superuser created here over to the database's owner. Chunks follow their hypertable.
DO $hand_over$
DECLARE
    owner name := (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database());
    one record;
BEGIN
    FOR one IN
        SELECT format('%s %s', CASE WHEN relkind IN ('v', 'm') THEN CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END
                                    WHEN relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass) AS thing
        FROM pg_class c
        WHERE c.relnamespace IN ('public'::regnamespace, to_regnamespace('lake')) AND c.relowner = current_user::regrole
          AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
                          AND d.deptype IN ('e', 'a', 'i') AND (d.deptype = 'e' OR c.relkind = 'S'))
        UNION ALL
        SELECT 'SCHEMA lake' FROM pg_namespace WHERE nspname = 'lake' AND nspowner = current_user::regrole
        UNION ALL
        SELECT format('TYPE %s', t.oid::regtype)
        FROM pg_type t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typowner = current_user::regrole AND t.typtype IN ('e', 'd')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.classid = 'pg_type'::regclass AND d.deptype = 'e')
        UNION ALL
        SELECT format('ROUTINE %s', p.oid::regprocedure)
        FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = current_user::regrole
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER %s OWNER TO %I', one.thing, owner);
    END LOOP;
END
$hand_over$;
