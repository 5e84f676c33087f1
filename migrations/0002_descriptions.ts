/**
 * Whole descriptions in the write-ahead log. What a table looks like is told by one function, `describe_table`, to the
 * engine that asks and to the event triggers that note a change, so both say the same; its version is a hash of that.
 *
 * A table is *ready* for a slot while everything that was found when it was made ready still holds: that the publication
 * sends all of it, and that the engine's role may read all of it. `readiness` says this in one text. Where it changes, the
 * event triggers take the mark away and note it, and the table is made ready anew.
 *
 * What the event triggers do can never make the statement fail that fired them, and waits for as little as possible.
 */
import { type Kysely, sql } from "kysely";

/** The prefix of the messages that stand for notes. */
export const unknownChange = "walcast.unknown_change";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table walcast.schema_changes add column description json`.execute(db);
  await sql`alter table walcast.ready_tables add column publication name, add column reader oid, add column readiness text`.execute(
    db,
  );
  for (const definition of definitions) await sql.raw(definition).execute(db);
  await sql`revoke all on all functions in schema walcast from public`.execute(db);
}

/**
 * Stored generated columns are sent from PostgreSQL 18 on, and there they have to be: without them nobody could update a
 * table with REPLICA IDENTITY FULL. Virtual ones never are.
 */
const isSent = "(a.attgenerated = '' or a.attgenerated = 's' and current_setting('server_version_num')::int >= 180000)";

/**
 * Null where there is no such table. Columns, keys and leaves are told by number or name as the catalog has them; the
 * engine turns them into positions. Generated columns that are not sent are no part of the table.
 *
 * `missing` is what rows from before a column have in it (PostgreSQL keeps it in one place instead of rewriting them). It is
 * no part of the version, because VACUUM FULL clears it. The settings are those under which values travel.
 *
 * Columns of the catalog that only some majors have are read through to_jsonb.
 */
const describeTable = `
create function walcast.describe_table(described oid) returns json
language sql stable set search_path = pg_catalog
set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set timezone = 'UTC' set bytea_output = 'hex'
set extra_float_digits = '1' set lc_monetary = 'C' as $$
  with recursive bases as (
    select a.attnum, t.oid, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod as typmod
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = described and a.attnum > 0 and not a.attisdropped and ${isSent}
    union all
    select b.attnum, t.oid, t.typtype, t.typbasetype, t.typtypmod, case when b.typtypmod >= 0 then b.typtypmod else b.typmod end
    from bases b join pg_type t on t.oid = b.typbasetype
    where b.typtype = 'd'
  ), needs as (
    select t.oid, need
    from pg_type t cross join lateral (
      select t.typelem union select t.typbasetype
      union select r.rngsubtype from pg_range r where r.rngtypid = t.oid
      union select r.rngtypid from pg_range r where r.rngmultitypid = t.oid
      union select a.atttypid from pg_attribute a where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped
    ) as needed (need)
    where need <> 0
  ), needed as (
    select a.atttypid as oid from pg_attribute a
    where a.attrelid = described and a.attnum > 0 and not a.attisdropped and ${isSent}
    union
    select needs.need from needed join needs on needs.oid = needed.oid
  ), types as (
    select json_agg(json_build_object('oid', t.oid::int8, 'schema', n.nspname, 'name', t.typname,
      'kind', case when t.typcategory = 'A' and t.typelem <> 0 then 'array' when range.portable is false then 'b' else t.typtype::text end,
      'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
      'base', case t.typtype when 'd' then format_type(t.typbasetype, t.typtypmod)
        when 'r' then format_type(range.rngsubtype, null) end,
      'multirange', case t.typtype when 'r' then (select json_build_object('schema', mn.nspname, 'name', m.typname)
        from pg_type m join pg_namespace mn on mn.oid = m.typnamespace where m.oid = range.rngmultitypid) end,
      'attributes', (select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
        from pg_attribute a where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped),
      'needs', (select json_agg(need::int8 order by need) from needs where needs.oid = t.oid)) order by t.oid) as types
    from needed join pg_type t on t.oid = needed.oid join pg_namespace n on n.oid = t.typnamespace
    left join lateral (
      select r.*, r.rngcollation = 0 and o.opcdefault and (s.oid < 16384 or s.typtype <> 'b') as portable
      from pg_range r join pg_opclass o on o.oid = r.rngsubopc join pg_type s on s.oid = r.rngsubtype
      where t.oid in (r.rngtypid, r.rngmultitypid)
    ) as range on true
    where t.oid >= 16384
  ), columns as (
    select json_agg(json_build_object('attnum', a.attnum, 'name', a.attname, 'typeOid', a.atttypid::int8, 'typmod', a.atttypmod,
        'type', format_type(a.atttypid, a.atttypmod),
        'baseTypeOid', b.oid::int8, 'baseTypeKind', b.typtype, 'baseTypmod', b.typmod, 'notNull', a.attnotnull,
        'enumLabels', case when b.typtype = 'e' then (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = b.oid) end,
        'collation', case when c.oid is not null then json_build_object('schema', cn.nspname, 'name', c.collname, 'deterministic', c.collisdeterministic,
          'isC', case when c.collname = 'default'
            then (select datcollate in ('C', 'POSIX') and coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' from pg_database d where datname = current_database())
            else coalesce(c.collcollate in ('C', 'POSIX') and c.collprovider = 'c', false) end) end) order by a.attnum) as columns,
      array_agg(a.attname order by a.attnum) as names,
      json_object_agg(a.attnum, array_to_string(a.attmissingval, '')) filter (where a.atthasmissing) as missing
    from pg_attribute a
    join bases b on b.attnum = a.attnum and b.typtype <> 'd'
    left join pg_collation c on c.oid = a.attcollation
    left join pg_namespace cn on cn.oid = c.collnamespace
    where a.attrelid = described
  ), leaves as (
    select json_agg(json_build_object('oid', l.oid::int8, 'kind', l.relkind, 'persistence', l.relpersistence,
      'columns', nullif(leaf.names, columns.names), 'identity', walcast.identity_columns(l.oid)) order by l.oid) as leaves
    from pg_partition_tree(described) p join pg_class l on l.oid = p.relid cross join columns
    cross join lateral (
      select array_agg(a.attname order by a.attnum) as names from pg_attribute a
      where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped and ${isSent}
    ) as leaf
    where p.isleaf and l.oid <> described and l.relkind <> 'p'
  ), form as (
    select json_build_object('oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
      'replicaIdentity', c.relreplident, 'identity', walcast.identity_columns(c.oid), 'key', walcast.key_columns(c.oid),
      'columns', columns.columns, 'types', types.types, 'leaves', leaves.leaves,
      'children', c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid)) as form, columns.missing
    from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join columns cross join types cross join leaves
    where c.oid = described
  )
  select json_build_object('version', md5(form::text) || walcast.unnoted(described), 'form', form, 'missing', missing) from form
$$`;

/**
 * Where no event trigger notes that a table is rewritten, or was not published for a while, its version has to show it,
 * whatever its form. A rewrite that gives rows other values writes the catalog's rows of the columns; TRUNCATE and VACUUM
 * FULL, which do not, leave them alone.
 */
const unnoted = `
create function walcast.unnoted(described oid) returns text
language sql stable set search_path = pg_catalog as $$
  select case when exists (select from pg_event_trigger where evtname = 'walcast_rewrite' and evtenabled = 'A') then '' else
    '-' || md5(concat(
      (select string_agg(format('%s %s %s', a.attrelid, a.attnum, a.xmin), ',' order by a.attrelid, a.attnum)
       from pg_attribute a where a.attnum > 0
         and (a.attrelid = described or a.attrelid in (select relid from pg_partition_tree(described)))), ';',
      (select string_agg(format('%s %s %s', p.oid, p.xmin, r.oid), ',' order by r.oid)
       from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
       where r.prrelid = described or r.prrelid in (select relid from pg_partition_ancestors(described))), ';',
      (select string_agg(format('%s %s', p.oid, p.xmin), ',' order by p.oid) from pg_publication p where p.puballtables))) end
$$`;

// The columns that a key merely INCLUDEs are not of the key. A deferrable key may hold twice in the middle of a transaction,
// and then a change does not say which of the two rows it means: it is not a key to us.
const keyColumns = `
create function walcast.key_columns(keyed oid) returns json
language sql stable set search_path = pg_catalog as $$
  select json_agg(a.attname order by k.place)
  from (select * from pg_index where indrelid = keyed and (indisprimary and indimmediate or indisreplident)
    order by indisprimary and indimmediate desc limit 1) i
  cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
  join pg_attribute a on a.attrelid = keyed and a.attnum = k.attnum
  where k.place <= i.indnkeyatts
$$`;

/** What an old row carries, by name; null under FULL, which is everything. An index that is gone leaves nothing. */
const identityColumns = `
create function walcast.identity_columns(identified oid) returns json
language sql stable set search_path = pg_catalog as $$
  select case when c.relreplident <> 'f' then coalesce(
    (select json_agg(a.attname order by k.place)
     from pg_index i cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
     join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
     where i.indrelid = c.oid and k.place <= i.indnkeyatts
       and (c.relreplident = 'd' and i.indisprimary and i.indimmediate or c.relreplident = 'i' and i.indisreplident)), '[]') end
  from pg_class c where c.oid = identified
$$`;

const tableVersion = `
create or replace function walcast.table_version(table_oid oid) returns text
language sql stable set search_path = pg_catalog as $$
  select walcast.describe_table(table_oid) ->> 'version'
$$`;

/**
 * Null unless the publication sends every change of the table: whole rows, every operation, partitions under their own
 * names, and our notes beside them. Otherwise a text that is another one when the table was taken out and put in again
 * meanwhile, or when the reader's rights are others.
 */
const readiness = `
create function walcast.readiness(wanted oid, published_by name, reader oid) returns text
language sql stable set search_path = pg_catalog as $$
  with publication as (
    select p.oid, p.puballtables from pg_publication p
    where p.pubname = published_by and p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate and not p.pubviaroot
      and coalesce(to_jsonb(p) ->> 'pubgencols', 's') = 's'
      and (p.puballtables or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = 'walcast.schema_changes'::regclass))
  ), members as (
    select r.oid, r.prrelid in (select wanted union select relid from pg_partition_ancestors(wanted)) as publishes,
      to_jsonb(r) ->> 'prqual' is not null or to_jsonb(r) ->> 'prattrs' is not null as is_part
    from publication p join pg_publication_rel r on r.prpubid = p.oid
    where r.prrelid in (select wanted union select relid from pg_partition_ancestors(wanted) union select relid from pg_partition_tree(wanted))
  )
  select json_build_array(p.oid::int8, p.puballtables, (select json_agg(oid::int8 order by oid) from members where publishes),
    walcast.rights(wanted, reader))::text
  from publication p
  where (p.puballtables or exists (select from members where publishes)) and not exists (select from members where is_part)
$$`;

/** What a role may read of a table. Row-level security would filter first rows, and not the stream. */
const rights = `
create function walcast.rights(wanted oid, reader oid) returns text
language sql stable set search_path = pg_catalog as $$
  select json_build_array(has_schema_privilege(role.oid, c.relnamespace, 'USAGE'),
    case when not has_table_privilege(role.oid, c.oid, 'SELECT') then
      (select coalesce(json_agg(a.attnum order by a.attnum), '[]') from pg_attribute a
       where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and has_column_privilege(role.oid, c.oid, a.attnum, 'SELECT')) end,
    c.relrowsecurity and not (role.rolsuper or role.rolbypassrls)
      and (c.relforcerowsecurity or not pg_has_role(role.oid, c.relowner, 'USAGE')))::text
  from pg_class c join pg_roles role on role.oid = reader
  where c.oid = wanted
$$`;

/** Every table that some engine may have described. */
const knownTables = `
create function walcast.known_tables() returns setof oid
language sql stable set search_path = pg_catalog as $$
  select table_oid from walcast.ready_tables
  union select prrelid from pg_publication_rel where prrelid <> 'walcast.schema_changes'::regclass
$$`;

/**
 * Where a note cannot be written (its table is locked, say, and the statement has a lock_timeout), a message says of these
 * tables that they changed in a way that nobody knows, and why: whoever shows them loads them anew. It waits for nothing.
 * Anybody may emit such a message, and would cause no more than that.
 */
const noteUnknown = `
create function walcast.note_unknown(changed oid[], cause text) returns void
language plpgsql set search_path = pg_catalog as $$
begin
  perform pg_logical_emit_message(true, '${unknownChange}', t.oid || ' ' || cause) from unnest(changed) as t (oid);
exception when others then null;
end
$$`;

const noteTables = `
create function walcast.note_tables(noted oid[]) returns void
language plpgsql set search_path = pg_catalog as $$
declare
  note oid;
  description json;
begin
  foreach note in array coalesce(noted, '{}') loop
    begin
      description := walcast.describe_table(note);
      insert into walcast.schema_changes (table_oid, version, description)
      values (note, description ->> 'version', description);
    exception when others then
      perform walcast.note_unknown(array[note], sqlerrm);
    end;
  end loop;
end
$$`;

/**
 * PostgreSQL lets nobody update a published table that has REPLICA IDENTITY FULL and a virtual generated column. FULL is our
 * wish: it goes when such a column comes.
 */
const spareUpdates = `
create function walcast.spare_updates(altered oid[]) returns void
language plpgsql set search_path = pg_catalog as $$
declare
  spared oid;
begin
  for spared in
    select c.oid from pg_class c
    where c.oid = any (altered) and c.relkind = 'r' and c.relreplident = 'f' and c.oid in (select walcast.known_tables())
      and exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 'v' and not a.attisdropped)
  loop
    execute format('alter table %s replica identity default', spared::regclass);
  end loop;
exception when others then null;
end
$$`;

/**
 * Whatever was ready, and is not in the same way now, is noted as if it had been rewritten. Null means all tables. Marks
 * that cannot be taken away, because another statement is at it, can still be read.
 */
const noteUnready = `
create function walcast.note_unready(suspects oid[]) returns void
language plpgsql set search_path = pg_catalog as $$
declare
  cause text;
  changed oid[] := suspects;
begin
  with gone as (
    delete from walcast.ready_tables r
    where (suspects is null or r.table_oid = any (suspects))
      and r.readiness is distinct from walcast.readiness(r.table_oid, r.publication, r.reader)
    returning r.table_oid
  )
  insert into walcast.schema_changes (table_oid, version, rewritten) select distinct table_oid, null, true from gone;
exception when others then
  cause := sqlerrm;
  begin
    select array_agg(distinct r.table_oid) into changed from walcast.ready_tables r
    where (suspects is null or r.table_oid = any (suspects))
      and r.readiness is distinct from walcast.readiness(r.table_oid, r.publication, r.reader);
  exception when others then null;
  end;
  perform walcast.note_unknown(changed, cause);
end
$$`;

// A note has done its work once it is in the write-ahead log. Two statements that tidy up at once do not wait for each other.
const forgetNotes = `
create function walcast.forget_notes() returns void
language plpgsql set search_path = pg_catalog as $$
begin
  delete from walcast.schema_changes where id in (
    select id from walcast.schema_changes where noted_at < clock_timestamp() - interval '1 hour' limit 1000 for update skip locked);
exception when others then null;
end
$$`;

// Notes are written by whoever runs the DDL, so these run with the rights of Walcast's role. A table's relatives are noted
// with it: the tables that it is a partition or a child of, and those known ones that are its own.
const noteSchemaChange = `
create or replace function walcast.note_schema_change() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
  changed oid[];
  noted oid[];
begin
  perform walcast.forget_notes();
  select array_agg(distinct objid) into changed
  from pg_event_trigger_ddl_commands() where classid = 'pg_class'::regclass and objid is not null;
  with recursive above (oid) as (
    select unnest(changed) union select i.inhparent from above join pg_inherits i on i.inhrelid = above.oid
  ), below (oid) as (
    select unnest(changed) union select i.inhrelid from below join pg_inherits i on i.inhparent = below.oid
  )
  select array_agg(c.oid) into noted
  from pg_class c
  where c.relkind in ('r', 'p') and c.relpersistence = 'p' and (
    c.oid in (select oid from above) and (tg_tag like 'ALTER %' or c.oid <> all (changed))
    or tg_tag like 'ALTER %' and c.oid in (select oid from below) and c.oid in (select walcast.known_tables()));
  perform walcast.spare_updates(noted);
  perform walcast.note_tables(noted);
  -- A partition that was detached is not published by what it was a partition of.
  if tg_tag like 'ALTER %' then
    perform walcast.note_unready(case when not exists (select from pg_class where oid = any (changed) and relkind = 'p') then noted end);
  end if;
exception when others then
  begin
    perform walcast.note_unready(null);
  exception when others then null;
  end;
end
$$`;

const noteRewrite = `
create or replace function walcast.note_rewrite() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  -- Another access method leaves every row what it is.
  if pg_event_trigger_table_rewrite_reason() <> 8 then
    insert into walcast.schema_changes (table_oid, version, rewritten)
    values (pg_event_trigger_table_rewrite_oid(), null, true);
  end if;
exception when others then
  begin
    perform walcast.note_unknown(array[pg_event_trigger_table_rewrite_oid()], sqlerrm);
  exception when others then null;
  end;
end
$$`;

// A column can go with its type, by CASCADE, and an identity with its index, and then nobody has altered the table. Which
// table a partition belonged to cannot be told any more: every known one that has partitions or children says what it is.
const noteDrop = `
create or replace function walcast.note_drop() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
  noted oid[];
begin
  with dropped as (
    select classid, objid, object_type from pg_event_trigger_dropped_objects() where not is_temporary
  )
  select array_agg(distinct oid) into noted
  from (
    select objid from dropped where classid = 'pg_class'::regclass and object_type in ('table', 'table column')
    union all
    select c.oid from walcast.known_tables() as known join pg_class c on c.oid = known
    where exists (select from dropped where object_type in ('table', 'foreign table')) and (c.relkind = 'p' or c.relhassubclass)
      or exists (select from dropped where object_type = 'index') and c.relreplident = 'i'
        and not exists (select from pg_index where indrelid = c.oid and indisreplident)
  ) as affected (oid);
  perform walcast.note_tables(noted);
  if exists (select from pg_event_trigger_dropped_objects() where object_type like 'publication%') then
    perform walcast.note_unready(null);
  end if;
  delete from walcast.ready_tables where table_oid = any (noted) and table_oid not in (select oid from pg_class);
exception when others then
  begin
    perform walcast.note_unready(null);
  exception when others then null;
  end;
end
$$`;

/** A type or a schema changed (an enum gained a label, say): every known table says what it is now. */
const noteTypes = `
create or replace function walcast.note_type_change() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  perform walcast.note_tables(array(select walcast.known_tables()));
exception when others then null;
end
$$`;

/** A publication changed, or who may read what. */
const noteReadiness = `
create function walcast.note_readiness() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  perform walcast.note_unready(null);
exception when others then null;
end
$$`;

const definitions = [
  keyColumns,
  identityColumns,
  unnoted,
  describeTable,
  tableVersion,
  rights,
  readiness,
  knownTables,
  noteUnknown,
  noteTables,
  spareUpdates,
  noteUnready,
  forgetNotes,
  noteSchemaChange,
  noteRewrite,
  noteDrop,
  noteTypes,
  noteReadiness,
];
