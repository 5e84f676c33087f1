/**
 * The tables of a simulation: what they start as, and how they change. Everything is chosen by the seed. A statement that
 * changes a table is followed, in its transaction, by a message that says what the table is now, with all of its rows:
 * so whoever decodes the commits need not know what ALTER TABLE does.
 */
import type { Client, QueryArrayConfig } from "pg";
import type { Random } from "../splice/random.ts";

export interface SimColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly nullable: boolean;
}

export interface SimTable {
  /** As in SQL: quoted where it must be. */
  readonly name: string;
  readonly columns: readonly SimColumn[];
  /** In the key's order. */
  readonly key: readonly string[];
  /** Where the rows of each region are, in a table that is partitioned by it. */
  readonly leaves?: Readonly<Record<string, string>>;
}

export const regions = ["north", "south"] as const;

/** What a message says: from its commit on this table has these columns and rows. Without columns it is gone. */
export interface Layout {
  readonly table: string;
  /** As test_decoding writes it. */
  readonly decoded: string;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly key: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
  /** Which region's rows a partition has, by the name that test_decoding gives it. */
  readonly leaves: Readonly<Record<string, string>>;
}

export interface SchemaMessage {
  readonly gone: readonly string[];
  readonly layouts: readonly Layout[];
}

interface Alteration {
  readonly after: SimTable;
  readonly statements: string[];
  /** Other tables that have another form afterwards. */
  readonly also?: readonly SimTable[];
}

export const messagePrefix = "simulation";

// ── Types ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ColumnType {
  readonly sql: string;
  /** A value in Postgres' input form. From few, so that rows meet predicates and each other. */
  value(random: Random): string;
}

/** Added by the schema changes one at a time, in this order. */
export const laterLabels = ["asleep", "angry", "bored"] as const;
const firstLabels = ["calm", "glad", "sad"] as const;

export const types = {
  int4: { sql: "integer", value: (random) => String(random.integer(-5, 40)) },
  int8: { sql: "bigint", value: (random) => `90071992547409${random.integer(10, 60)}` },
  text: { sql: "text", value: (random) => random.pick(words) },
  numeric: { sql: "numeric(12,2)", value: (random) => `${random.integer(-9, 90)}.${random.integer(10, 99)}` },
  bool: { sql: "boolean", value: (random) => random.pick(["t", "f"]) },
  mood: { sql: "mood", value: (random) => random.pick(firstLabels) },
  char: { sql: "character(6)", value: (random) => random.pick(["ab", "cd ", "efghij"]) },
  time: {
    sql: "timestamp with time zone",
    value: (random) => `2026-0${random.integer(1, 9)}-1${random.integer(0, 9)} 10:00:0${random.integer(0, 9)}.5+00`,
  },
  array: { sql: "integer[]", value: (random) => `{${random.integer(0, 3)},NULL,${random.integer(0, 3)}}` },
  /** Long and hard to compress: kept out of line, and left out of updates that do not touch it. */
  long: { sql: "text", value: (random) => longText(random) },
} satisfies Record<string, ColumnType>;

const words = ["amber", "Blue", "it's", 'say "so"', "tab\there", "back\\slash", "línea", "", "null", "%_"] as const;

function longText(random: Random): string {
  let text = "";
  for (let i = 0; i < 400; i++) text += random.integer(0, 0x7fffffff).toString(36);
  return text;
}

const columnTypes = [
  types.int4,
  types.int8,
  types.text,
  types.numeric,
  types.bool,
  types.mood,
  types.char,
  types.time,
  types.array,
] as const;

// ── The schema and its changes ───────────────────────────────────────────────────────────────────────────────────────

export class Schema {
  readonly random: Random;
  tables: SimTable[] = [];
  private count = 0;
  private labels = 0;

  constructor(random: Random) {
    this.random = random;
  }

  async create(db: Client): Promise<void> {
    await db.query(`create type mood as enum (${firstLabels.map((label) => `'${label}'`).join(", ")})`);
    for (const name of ["accounts", '"Odd Name"', "items", "notes"]) {
      this.tables.push(this.randomTable(name));
    }
    this.tables.push(this.partitionedTable("parted"));
    for (const table of this.tables) await createTable(db, table);
  }

  /** One change of one table. Resolves with what was done, for the trace. Rejects where a lock did not come in time. */
  async change(db: Client): Promise<string> {
    const table = this.random.pick(this.tables);
    const { after, statements, also = [] } = this.randomChange(table);
    const [before, later] = this.random.chance(0.4) ? this.changesAround(table, after) : [[], []];
    const gone = after.name === table.name ? [] : [table];
    await inTransaction(db, [...before, ...statements], gone, [after, ...also], later);
    this.tables = this.tables.map((other) => (other === table ? after : other));
    return [...before, ...statements, ...later].join("; ");
  }

  /** What the same transaction does to the rows, before and after their table has its other form. */
  private changesAround(table: SimTable, after: SimTable): [string[], string[]] {
    const from = this.random.integer(1, 60);
    return [
      [`update ${table.name} set id = id + 100 where id between ${from} and ${from + 4}`],
      [`delete from ${after.name} where id between ${from + 101} and ${from + 102}`],
    ];
  }

  private partitionedTable(name: string): SimTable {
    const leaves = regions.map((region) => [region, `leaf${++this.count}`] as const);
    return { ...this.randomTable(name, true), leaves: Object.fromEntries(leaves) };
  }

  private randomTable(name: string, composite = this.random.chance(0.4)): SimTable {
    const id = { name: "id", type: types.int4, nullable: false };
    const region = { name: "region", type: types.text, nullable: false };
    const columns: SimColumn[] = composite ? [region, id] : [id];
    for (let i = this.random.integer(2, 4); i > 0; i--) columns.push(this.randomColumn());
    if (this.random.chance(0.6)) columns.push({ name: "body", type: types.long, nullable: true });
    return { name, columns, key: composite ? ["id", "region"] : ["id"] };
  }

  private randomColumn(): SimColumn {
    return { name: `c${++this.count}`, type: this.random.pick(columnTypes), nullable: this.random.chance(0.5) };
  }

  private randomChange(table: SimTable): Alteration {
    const { random } = this;
    const others = table.columns.filter(({ name }) => !table.key.includes(name));
    const column = random.pick(others);
    const changes: (() => Alteration)[] = [
      () => this.addColumn(table, { ...this.randomColumn(), nullable: true }, ""),
      () => this.addColumn(table, { name: `c${++this.count}`, type: types.int4, nullable: false }, " default 7"),
      () =>
        this.addColumn(
          table,
          { name: `c${++this.count}`, type: types.int4, nullable: false },
          " default (random() * 30)::int",
        ),
      () => this.renameTable(table),
      () => this.recreate(table),
      () => this.addLabel(table),
    ];
    if (others.length > 1)
      changes.push(() => ({
        after: { ...table, columns: table.columns.filter((other) => other !== column) },
        statements: [`alter table ${table.name} drop column ${column.name}`],
      }));
    if (others.length > 0) changes.push(() => this.renameColumn(table, column));
    const narrow = others.find(({ type }) => type === types.int4);
    if (narrow) changes.push(() => this.widen(table, narrow));
    return random.pick(changes)();
  }

  private addColumn(table: SimTable, column: SimColumn, clause: string): Alteration {
    const statement = `alter table ${table.name} add column ${column.name} ${column.type.sql}${column.nullable ? "" : " not null"}${clause}`;
    return { after: { ...table, columns: [...table.columns, column] }, statements: [statement] };
  }

  private renameColumn(table: SimTable, column: SimColumn): Alteration {
    const renamed = { ...column, name: `c${++this.count}` };
    return {
      after: { ...table, columns: table.columns.map((other) => (other === column ? renamed : other)) },
      statements: [`alter table ${table.name} rename column ${column.name} to ${renamed.name}`],
    };
  }

  private widen(table: SimTable, column: SimColumn): Alteration {
    const wide = { ...column, type: types.int8 };
    return {
      after: { ...table, columns: table.columns.map((other) => (other === column ? wide : other)) },
      statements: [`alter table ${table.name} alter column ${column.name} type bigint`],
    };
  }

  private renameTable(table: SimTable): Alteration {
    const name = `renamed${++this.count}`;
    return { after: { ...table, name }, statements: [`alter table ${table.name} rename to ${name}`] };
  }

  private recreate(table: SimTable): Alteration {
    const after = table.leaves ? this.partitionedTable(table.name) : this.randomTable(table.name);
    return { after, statements: [`drop table ${table.name}`, ...createStatements(after)] };
  }

  private addLabel(table: SimTable): Alteration {
    const label = laterLabels[this.labels++];
    if (label === undefined) return this.renameTable(table);
    const also = this.tables.filter(
      (other) => other !== table && other.columns.some(({ type }) => type === types.mood),
    );
    return { after: table, statements: [`alter type mood add value '${label}'`], also };
  }
}

export async function createTable(db: Client, table: SimTable): Promise<void> {
  await inTransaction(db, createStatements(table), [], [table]);
}

async function inTransaction(
  db: Client,
  statements: readonly string[],
  gone: readonly SimTable[],
  changed: readonly SimTable[],
  later: readonly string[] = [],
): Promise<void> {
  await db.query("begin");
  try {
    for (const statement of statements) await db.query(statement);
    const layouts: Layout[] = [];
    for (const table of changed) layouts.push(await layoutOf(db, table));
    const message: SchemaMessage = { gone: gone.map(({ name }) => decodedName(name)), layouts };
    await db.query("select pg_logical_emit_message(true, $1, $2)", [messagePrefix, JSON.stringify(message)]);
    for (const statement of later) await db.query(statement);
    await db.query("commit");
  } catch (error) {
    await db.query("rollback");
    throw error;
  }
}

function createStatements({ name, columns, key, leaves }: SimTable): string[] {
  const list = columns.map(({ name, type, nullable }) => `${name} ${type.sql}${nullable ? "" : " not null"}`);
  const create = `create table ${name} (${list.join(", ")}, primary key (${key.join(", ")}))`;
  if (!leaves) return [create];
  const parts = Object.entries(leaves).map(
    ([region, leaf]) => `create table ${leaf} partition of ${name} for values in ('${region}')`,
  );
  return [`${create} partition by list (region)`, ...parts];
}

/** Locks the table, so that the rows it tells are those at its commit. */
async function layoutOf(db: Client, table: SimTable): Promise<Layout> {
  await db.query(`lock table ${table.name} in share mode`);
  const { rows: columns } = await db.query<{ name: string; type: string }>(
    `select attname::text as name, format_type(atttypid, atttypmod) as type from pg_attribute
     where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum`,
    [table.name],
  );
  const { rows } = await db.query<(string | null)[]>(everyRowOf(table.name));
  const leaves = Object.entries(table.leaves ?? {}).map(([region, leaf]) => [decodedName(leaf), region] as const);
  return {
    table: table.name,
    decoded: decodedName(table.name),
    columns,
    key: table.key,
    rows,
    leaves: Object.fromEntries(leaves),
  };
}

export function isLong({ type, nullable }: SimColumn): boolean {
  return type === types.long && nullable;
}

/** Each value as Postgres writes it. */
export function everyRowOf(table: string): QueryArrayConfig {
  const types = { getTypeParser: () => (text: string | Buffer) => String(text) };
  return { text: `select * from ${table}`, rowMode: "array", types };
}

export function decodedName(name: string): string {
  return `public.${name}`;
}
