/**
 * Messages in the write-ahead log: `walcast.publish` and `walcast.revalidate` put them at their place in the transaction that
 * calls them, so they are sent with its rows, in its order, and not at all where it is rolled back.
 *
 * Everybody in a database may emit logical messages (EXECUTE on pg_logical_emit_message is PUBLIC's), and not everybody shall
 * publish. So a message's prefix carries a secret that only these functions can read, and a message without it is ignored.
 */
import { type Kysely, sql } from "kysely";
import { unknownChange } from "./0002_descriptions.ts";

/** The prefix of messages, before the secret. */
export const messagePrefix = "walcast.message.";

/** UTF-8 bytes of a payload as text, and of a topic, a key or a scope; and how many keys or scopes one message names. */
export const messageBounds = { payloadBytes: 262_144, nameBytes: 512, names: 1_000 } as const;

export async function up(db: Kysely<unknown>): Promise<void> {
  await createTables(db);
  for (const definition of definitions) await sql.raw(definition).execute(db);
  await sql`revoke all on all tables in schema walcast from public`.execute(db);
  await sql`revoke all on all functions in schema walcast from public`.execute(db);
}

async function createTables(db: Kysely<unknown>): Promise<void> {
  await sql`create table walcast.secrets (name text primary key, value text not null)`.execute(db);
  await sql`
    insert into walcast.secrets (name, value)
    values ('messages', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''))`.execute(db);
  // A producer that does not know whether it has published asks again with the same key. Remembered for a day, at least.
  await sql`
    create table walcast.published_keys (
      producer text not null,
      key text not null,
      published_at timestamptz not null default clock_timestamp(),
      primary key (producer, key)
    )`.execute(db);
  await sql`create index published_keys_age on walcast.published_keys (published_at)`.execute(db);
}

// Databases that were set up by a version of 0002 without it have no such function.
const noteUnknown = `
create or replace function walcast.note_unknown(changed oid[], cause text) returns void
language plpgsql set search_path = pg_catalog as $$
begin
  perform pg_logical_emit_message(true, '${unknownChange}', t.oid || ' ' || cause) from unnest(changed) as t (oid);
exception when others then null;
end
$$`;

/** A line of JSON that says to whom, then what. jsonb's text has no line breaks; bytes, as a database may have another encoding. */
const emit = `
create function walcast.emit_message(head jsonb, body text) returns void
language sql security definer set search_path = pg_catalog as $$
  select pg_logical_emit_message(true, '${messagePrefix}' || value, convert_to(head::text || E'\\n' || body, 'UTF8'))
  from walcast.secrets where name = 'messages'
$$`;

const checkNames = `
create function walcast.check_names(what text, names text[]) returns void
language plpgsql set search_path = pg_catalog as $$
begin
  if cardinality(names) > ${messageBounds.names} then
    raise exception 'walcast: expected at most ${messageBounds.names} %, found %', what, cardinality(names) using errcode = 'program_limit_exceeded';
  end if;
  if exists (select from unnest(names) as n (name) where n.name is null or n.name = '') then
    raise exception 'walcast: expected % that are neither NULL nor empty', what using errcode = 'invalid_parameter_value';
  end if;
  if exists (select from unnest(names) as n (name) where octet_length(convert_to(n.name, 'UTF8')) > ${messageBounds.nameBytes}) then
    raise exception 'walcast: expected % of at most ${messageBounds.nameBytes} bytes', what using errcode = 'program_limit_exceeded';
  end if;
end
$$`;

const publish = `
create function walcast.publish(topic text, payload jsonb, scopes text[] default null) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
  body text := coalesce(payload, 'null')::text;
begin
  perform walcast.check_names('topics', array[topic]);
  perform walcast.check_names('scopes', scopes);
  if octet_length(convert_to(body, 'UTF8')) > ${messageBounds.payloadBytes} then
    raise exception 'walcast: expected a payload of at most ${messageBounds.payloadBytes} bytes, found %', octet_length(convert_to(body, 'UTF8'))
      using errcode = 'program_limit_exceeded', hint = 'publish where it is found, and not the thing itself';
  end if;
  perform walcast.emit_message(jsonb_build_object('topic', topic, 'scopes', to_jsonb(scopes)), body);
end
$$`;

const revalidate = `
create function walcast.revalidate(keys text[], scopes text[] default null) returns void
language plpgsql security definer set search_path = pg_catalog as $$
begin
  perform walcast.check_names('keys', keys);
  perform walcast.check_names('scopes', scopes);
  if cardinality(keys) > 0 then
    perform walcast.emit_message(jsonb_build_object('keys', to_jsonb(keys), 'scopes', to_jsonb(scopes)), '');
  end if;
end
$$`;

// A key that another transaction is about to take is waited for: only its commit decides.
const takeKey = `
create function walcast.take_key(producer text, key text) returns boolean
language plpgsql security definer set search_path = pg_catalog as $$
begin
  perform walcast.check_names('producers and keys', array[producer, key]);
  delete from walcast.published_keys p where (p.producer, p.key) in (
    select old.producer, old.key from walcast.published_keys old
    where old.published_at < clock_timestamp() - interval '1 day' limit 100 for update skip locked);
  insert into walcast.published_keys (producer, key) values (take_key.producer, take_key.key) on conflict do nothing;
  return found;
end
$$`;

const publishOnce = `
create function walcast.publish_once(producer text, key text, topic text, payload jsonb, scopes text[] default null) returns boolean
language plpgsql security definer set search_path = pg_catalog as $$
begin
  if not walcast.take_key(producer, key) then
    return false;
  end if;
  perform walcast.publish(topic, payload, scopes);
  return true;
end
$$`;

const definitions = [noteUnknown, emit, checkNames, publish, revalidate, takeKey, publishOnce];
