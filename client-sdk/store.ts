/**
 * What a replica knows about itself, kept in its schema `walcast`: the position its rows are at, and of which history;
 * its tables as the server described them; and its members: which shape's rows are there, and what the server called
 * them. All of it changes in the local transactions that change the rows, so a process that is killed at any moment
 * finds a state again that was true at its position.
 *
 * A store of another format, or one that does not hold together, is emptied: its rows can be had again.
 */
import { type Lsn, parseLsn, type TableDescription, type TypeDescription, zeroLsn } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import type { Run } from "./postgres-session.ts";
import type { Row } from "./row.ts";
import { forgetStaged, stagingTable } from "./staging.ts";
import { qualified } from "./table-name.ts";
import { mark } from "./tables.ts";

/** Counted up when what follows is changed. */
const FORMAT = 4;

// The position has a table of its own, without an index or a check, as every local transaction writes it. A page is kept
// nearly empty, or each update would have to pass dozens of old versions first. Measured: 5 µs, not 7.5.
const schema = `
  BEGIN READ WRITE;
  CREATE SCHEMA walcast;
  CREATE TABLE walcast.state (one boolean PRIMARY KEY DEFAULT true CHECK (one), format int NOT NULL, epoch text, owner text);
  CREATE TABLE walcast.position (position pg_lsn NOT NULL) WITH (fillfactor = 10);
  CREATE TABLE walcast.tables (name text PRIMARY KEY, description json NOT NULL, holders text NOT NULL);
  CREATE TABLE walcast.types (name text PRIMARY KEY, description json NOT NULL);
  CREATE TABLE walcast.members (number int PRIMARY KEY, request text NOT NULL, name text NOT NULL, identity text, access text, claimed timestamptz NOT NULL DEFAULT now());
  ${stagingTable};
  INSERT INTO walcast.state (format) VALUES (${FORMAT});
  INSERT INTO walcast.position VALUES ('0/0');
  COMMIT`;

export interface StoredTable {
  readonly name: string;
  readonly description: TableDescription;
  readonly holders: string;
}

export interface StoredMember {
  readonly number: number;
  readonly request: string;
  readonly name: string;
  /** Null where its rows are older than the position. */
  readonly identity: string | null;
  /** What the client might read when its rows came; null where the server did not say. */
  readonly access: string | null;
}

export interface Stored {
  readonly epoch: string | undefined;
  readonly position: Lsn;
  readonly tables: readonly StoredTable[];
  readonly types: ReadonlyMap<string, TypeDescription>;
  readonly members: readonly StoredMember[];
  /** Why what was there had to go. */
  readonly emptied: string | undefined;
  /** What was there was somebody else's. */
  readonly isPurged: boolean;
}

/** Finds what is there and belongs to `owner`, or begins. */
export function openStore(database: Database, owner: string | undefined): Stored {
  const isNew = database.rows("SELECT FROM pg_namespace WHERE nspname = 'walcast'").length === 0;
  if (isNew) return begin(database, owner, undefined);
  const isTheirs = belongsTo(database, owner);
  try {
    expectFormat(database);
    if (!isTheirs) {
      empty(database, isTheirs);
      return { ...begin(database, owner, undefined), isPurged: true };
    }
    const stored = read(database);
    database.transaction(() => clean(database));
    return stored;
  } catch (error) {
    empty(database, isTheirs);
    return begin(database, owner, error instanceof Error ? error.message : String(error));
  }
}

function begin(database: Database, owner: string | undefined, emptied: string | undefined): Stored {
  database.script(schema);
  database.transaction(() => database.runAll([setOwner(owner)]));
  return { epoch: undefined, position: zeroLsn, tables: [], types: new Map(), members: [], emptied, isPurged: false };
}

/** Not where nobody can say: what is there is in the format of another version, or damaged. */
function belongsTo(database: Database, owner: string | undefined): boolean {
  try {
    const [state] = database.rows("SELECT owner FROM walcast.state");
    return state !== undefined && (state.owner ?? undefined) === owner;
  } catch {
    return false;
  }
}

function read(database: Database): Stored {
  const [state] = database.rows(
    "SELECT epoch, (SELECT position::text FROM walcast.position) AS position FROM walcast.state",
  );
  const tables = database.rows("SELECT name, description, holders FROM walcast.tables") as unknown as StoredTable[];
  const members = database.rows(
    "SELECT number, request, name, identity, access FROM walcast.members ORDER BY number",
  ) as unknown as StoredMember[];
  const types = database.rows("SELECT name, description FROM walcast.types");
  for (const table of tables) verify(database, table, members.filter(({ name }) => name === table.name).length);
  for (const { name } of members)
    if (!tables.some((table) => table.name === name)) throw new Error(`expected the table ${name}, found none`);
  return {
    epoch: (state!.epoch as string | null) ?? undefined,
    position: parseLsn(String(state!.position)),
    tables,
    members,
    types: new Map(types.map(({ name, description }) => [String(name), description as TypeDescription])),
    emptied: undefined,
    isPurged: false,
  };
}

function expectFormat(database: Database): void {
  const [state] = database.rows("SELECT format FROM walcast.state");
  if (state?.format !== FORMAT) throw new Error(`expected a store of format ${FORMAT}, found ${String(state?.format)}`);
}

/** Whether the table is as it was described, and can be read to its end. */
function verify(database: Database, { name, description, holders }: StoredTable, memberCount: number): void {
  if (qualified(description) !== name) throw new Error(`expected the description of ${name}, found another table's`);
  const found = database.rows(
    "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
    [name],
  );
  const names = new Set(found.map(({ attname }) => String(attname)));
  const isWhole = names.size === description.columns.length && description.columns.every((one) => names.has(one.name));
  if (!isWhole) throw new Error(`expected ${name} to have ${description.columns.length} columns, found ${names.size}`);
  // Every page, and none of the rows, which would take half as long again. https://www.postgresql.org/docs/current/sql-select.html
  for (const one of memberCount > 1 ? [name, holders] : [name])
    database.rows(`SELECT FROM ${one} TABLESAMPLE BERNOULLI (0)`);
}

/** Loads that were under way come again from their beginning. */
function clean(database: Database): void {
  for (const name of loads(database)) database.script(`DROP TABLE ${name}`);
  database.script(forgetStaged);
}

function loads(database: Database): string[] {
  return namesOf(
    database.rows(
      "SELECT format('walcast.%I', relname) AS name FROM pg_class WHERE relnamespace = 'walcast'::regnamespace AND relkind = 'r' AND relname LIKE 'load %'",
    ),
  );
}

/** The highest number that a load has had. The key's index of a table that it became is called after it for ever. */
export function lastLoad(database: Database): number {
  // A regular expression would be Postgres' first in this process, and take longer than everything else that is read here.
  const found = database.rows("SELECT relname FROM pg_class WHERE relname LIKE 'load %'");
  return Math.max(0, ...found.map(({ relname }) => Number.parseInt(String(relname).slice("load ".length), 10) || 0));
}

/** What is ours is found by its mark, whatever has become of the lists. What the application wrote stays with its user only. */
function empty(database: Database, isTheirs: boolean): void {
  const tables = namesOf(
    database.rows(
      "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND obj_description(oid, 'pg_class') = $1",
      [mark],
    ),
  );
  const types = namesOf(
    database.rows("SELECT oid::regtype::text AS name FROM pg_type WHERE obj_description(oid, 'pg_type') = $1", [mark]),
  );
  database.transaction(() => {
    for (const name of tables) database.script(`DROP TABLE IF EXISTS ${name} CASCADE`);
    for (const name of types) database.script(`DROP TYPE IF EXISTS ${name} CASCADE`);
    database.script("DROP SCHEMA walcast CASCADE");
    if (database.instance.isOwn && !isTheirs) dropTheRest(database);
  });
  database.forgetStatements();
}

/** In a transaction. */
function dropTheRest(database: Database): void {
  const schemas = namesOf(
    database.rows(
      "SELECT quote_ident(nspname) AS name FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
    ),
  );
  for (const name of schemas) database.script(`DROP SCHEMA ${name} CASCADE`);
  database.script("CREATE SCHEMA public");
}

function namesOf(rows: readonly Row[]): string[] {
  return rows.map(({ name }) => String(name));
}

// ── Statements, to be part of the transactions they belong to ────────────────────────────────────────────────────────

/** `parameter`: its number, where it is written beside something else. */
export function setPosition(position: string, parameter = 1): Run {
  return { sql: `UPDATE walcast.position SET position = $${parameter}`, values: [position] };
}

/** Nobody's, where there is none. */
export function setOwner(owner: string | undefined): Run {
  return { sql: "UPDATE walcast.state SET owner = $1", values: [owner ?? null] };
}

export function setEpoch(epoch: string): Run {
  return { sql: "UPDATE walcast.state SET epoch = $1", values: [epoch] };
}

export function saveTable(name: string, description: TableDescription, holders: string): Run {
  return {
    sql: `INSERT INTO walcast.tables VALUES ($1, $2::json, $3)
      ON CONFLICT (name) DO UPDATE SET description = EXCLUDED.description, holders = EXCLUDED.holders`,
    values: [name, JSON.stringify(description), holders],
  };
}

export function saveType(name: string, type: TypeDescription): Run {
  return {
    sql: "INSERT INTO walcast.types VALUES ($1, $2::json) ON CONFLICT (name) DO UPDATE SET description = EXCLUDED.description",
    values: [name, JSON.stringify(type)],
  };
}

export function saveMember({ number, request, name, identity, access }: StoredMember): Run {
  return {
    sql: `INSERT INTO walcast.members VALUES ($1::int, $2, $3, $4, $5)
      ON CONFLICT (number) DO UPDATE SET name = EXCLUDED.name, identity = EXCLUDED.identity, access = EXCLUDED.access`,
    values: [String(number), request, name, identity, access],
  };
}

export function dropMember(number: number): Run {
  return { sql: "DELETE FROM walcast.members WHERE number = $1::int", values: [String(number)] };
}

export function setAccess(number: number, access: string): Run {
  return { sql: "UPDATE walcast.members SET access = $2 WHERE number = $1::int", values: [String(number), access] };
}

/** Its rows are older than the position from now on. */
export function outdateMember(number: number): Run {
  return { sql: "UPDATE walcast.members SET identity = NULL WHERE number = $1::int", values: [String(number)] };
}

export const outdateAllMembers: Run = { sql: "UPDATE walcast.members SET identity = NULL", values: [] };

export function claimMember(number: number): Run {
  return { sql: "UPDATE walcast.members SET claimed = now() WHERE number = $1::int", values: [String(number)] };
}

/** Members that nobody has asked for in this time. */
export const forgotten = "SELECT number FROM walcast.members WHERE claimed < now() - interval '30 days'";
