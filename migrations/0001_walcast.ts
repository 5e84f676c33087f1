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

/** One text per state of a table that changes whenever a client would need to know. Dropped columns leave gaps in attnum. */
const tableVersion = `
create function walcast.table_version(table_oid oid) returns text
language sql stable set search_path = pg_catalog as $$
  select md5(concat_ws('|', c.relname, n.nspname, c.relkind, c.relreplident, c.relpersistence,
    (select string_agg(concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attcollation, a.attgenerated, t.typname, t.typtype,
        (select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = coalesce(nullif(t.typbasetype, 0), nullif(t.typelem, 0), t.oid))), ';' order by a.attnum)
      from pg_attribute a join pg_type t on t.oid = a.atttypid
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    (select string_agg(i.indkey::text || i.indisprimary || i.indisreplident, ';' order by i.indexrelid)
      from pg_index i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident))))
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
  insert into walcast.schema_changes (table_oid, version)
  select distinct objid, null::text
  from pg_event_trigger_dropped_objects()
  where classid = 'pg_class'::regclass and objsubid = 0 and object_type = 'table' and not is_temporary;
end
$$`;

/** A type changed (an enum gained a label, say): every published table that might use it says what it is now. */
const noteTypes = `
create function walcast.note_type_change() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  insert into walcast.schema_changes (table_oid, version)
  select distinct r.prrelid, walcast.table_version(r.prrelid)
  from pg_publication_rel r join pg_attribute a on a.attrelid = r.prrelid join pg_type t on t.oid = a.atttypid
  where a.attnum > 0 and not a.attisdropped and t.oid >= 16384;
end
$$`;
