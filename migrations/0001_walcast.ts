/**
 * What Walcast keeps in Postgres: the private schema `walcast`.
 *
 * `schema_changes` is how a change of a table's shape reaches the stream at its own place in the commit order: event
 * triggers write a row in the transaction of the DDL, and the row is replicated like any other. It holds the table's
 * version as it is *inside* that transaction, so nobody has to ask a catalog that may have moved on.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create schema if not exists walcast`.execute(db);
  await createTables(db);
  await sql.raw(tableVersion).execute(db);
  await sql.raw(noteSchemaChange).execute(db);
  await sql.raw(noteRewrite).execute(db);
  await sql.raw(noteDrop).execute(db);
  await sql.raw(noteTypes).execute(db);
  await sql`revoke all on all functions in schema walcast from public`.execute(db);
}

async function createTables(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table walcast.schema_changes (
      id bigint generated always as identity primary key,
      table_oid oid not null,
      version text,
      rewritten boolean not null default false,
      noted_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  // A table is ready for a slot once every transaction that could have written it unpublished has ended.
  await sql`
    create table walcast.ready_tables (
      slot_name name not null,
      table_oid oid not null,
      primary key (slot_name, table_oid)
    )`.execute(db);
}

/**
 * One text per state of a table, that changes whenever a client would need to know: its columns, its key, and the types
 * that it needs, however deep they lie. Dropped columns leave gaps in attnum.
 */
const tableVersion = `
create function walcast.table_version(table_oid oid) returns text
language sql stable set search_path = pg_catalog as $$
  with recursive needed (oid) as (
    select a.atttypid from pg_attribute a where a.attrelid = table_oid and a.attnum > 0 and not a.attisdropped
    union
    select part.oid
    from needed join pg_type t on t.oid = needed.oid
    cross join lateral (
      select t.typelem union all select t.typbasetype
      union all select r.rngsubtype from pg_range r where r.rngtypid = t.oid or r.rngmultitypid = t.oid
      union all select a.atttypid from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as part (oid)
    where part.oid <> 0
  )
  select md5(json_build_array(c.relname, n.nspname, c.relkind, c.relreplident, c.relpersistence,
    (select json_agg(json_build_array(a.attnum, a.attname, a.atttypid::text, a.atttypmod, a.attnotnull, a.attcollation::text, a.attgenerated) order by a.attnum)
      from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    (select json_agg(json_build_array(i.indkey::text, i.indnkeyatts, i.indisprimary, i.indisreplident) order by i.indexrelid)
      from pg_index i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)),
    (select json_agg(json_build_array(t.oid::text, tn.nspname, t.typname, t.typtype, t.typbasetype::text, t.typtypmod,
        (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
        (select json_agg(json_build_array(a.attname, a.atttypid::text, a.atttypmod) order by a.attnum)
          from pg_attribute a where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped)) order by t.oid)
      from needed join pg_type t on t.oid = needed.oid join pg_namespace tn on tn.oid = t.typnamespace
      where t.oid >= 16384))::text)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = table_oid
$$`;

// Rows are written by whoever runs the DDL, so the functions run with the rights of Walcast's role. The old rows go:
// a row has done its work once it is in the write-ahead log.
const noteSchemaChange = `
create function walcast.note_schema_change() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  delete from walcast.schema_changes where noted_at < clock_timestamp() - interval '1 hour';
  insert into walcast.schema_changes (table_oid, version)
  select distinct c.oid, walcast.table_version(c.oid)
  from pg_event_trigger_ddl_commands() d
  join pg_class c on c.oid = d.objid
  where d.classid = 'pg_class'::regclass and c.relkind in ('r', 'p') and c.relpersistence = 'p';
end
$$`;

const noteRewrite = `
create function walcast.note_rewrite() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  insert into walcast.schema_changes (table_oid, version, rewritten)
  values (pg_event_trigger_table_rewrite_oid(), null, true);
end
$$`;

const noteDrop = `
create function walcast.note_drop() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  -- A column can go with its type, by CASCADE, and then nobody has altered the table. What is gone has no version.
  insert into walcast.schema_changes (table_oid, version)
  select distinct objid, walcast.table_version(objid)
  from pg_event_trigger_dropped_objects()
  where classid = 'pg_class'::regclass and object_type in ('table', 'table column') and not is_temporary;
end
$$`;

/** A type or a schema changed (an enum gained a label, say): every published table says what it is now. */
const noteTypes = `
create function walcast.note_type_change() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  insert into walcast.schema_changes (table_oid, version)
  select distinct prrelid, walcast.table_version(prrelid) from pg_publication_rel;
end
$$`;
