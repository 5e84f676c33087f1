/**
 * The tables of a simulation: what they start as, and how they change. Everything is chosen by the seed. A statement that
 * changes a table is followed, in its transaction, by a message that says what the table is now: see layout.ts.
 */
import type { Client } from "pg";
import type { Random } from "../splice/random.ts";
import {
  columnSql,
  columnTypes,
  firstLabels,
  laterLabels,
  type Region,
  regions,
  type SimColumn,
  types,
} from "./columns.ts";
import { inTransaction } from "./layout.ts";
import { attachStatements, detachStatements, type Leaves, partitionStatement } from "./partitions.ts";

export interface SimTable {
  /** As in SQL: quoted where it must be, with its schema where that is not public. */
  readonly name: string;
  readonly columns: readonly SimColumn[];
  /** In the key's order. */
  readonly key: readonly string[];
  /** Where the rows of a region are, in a table that is partitioned by it. */
  readonly leaves?: Leaves;
}

interface Alteration {
  readonly after: SimTable;
  readonly statements: readonly string[];
  /** Other tables that have another form afterwards. */
  readonly also?: readonly SimTable[];
}

export const kinds = [
  "ADD COLUMN",
  "ADD COLUMN, one value",
  "ADD COLUMN, many values",
  "DROP COLUMN",
  "RENAME COLUMN",
  "ALTER TYPE",
  "ADD VALUE",
  "RENAME",
  "SET SCHEMA",
  "DROP and CREATE",
  "ATTACH PARTITION",
  "DETACH PARTITION",
] as const;
type Kind = (typeof kinds)[number];

// ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const plainNames = ["accounts", '"Odd Name"', "items", "notes"] as const;
const partitionedName = "parted";
const laterNames = Array.from({ length: 24 }, (_, i) => `renamed${i + 1}`);
const otherSchema = "other";
const other = `${otherSchema}.`;

/** All that a table can ever be called: for who has to say beforehand which tables there are. */
export const everyName: readonly string[] = [...plainNames, partitionedName, ...laterNames].flatMap((name) => [
  name,
  other + name,
]);

function withoutSchema(name: string): string {
  return name.startsWith(other) ? name.slice(other.length) : name;
}

// ── The schema and its changes ───────────────────────────────────────────────────────────────────────────────────────

export class Schema {
  readonly random: Random;
  tables: SimTable[] = [];
  private count = 0;
  private labels = 0;
  /** Those that come next are first. */
  private readonly kinds: Kind[];

  constructor(random: Random) {
    this.random = random;
    this.kinds = random.shuffled(kinds);
  }

  async create(db: Client): Promise<void> {
    await db.query(`create type mood as enum (${firstLabels.map((label) => `'${label}'`).join(", ")})`);
    await db.query(`create schema ${otherSchema}`);
    for (const name of plainNames) this.tables.push(this.randomTable(name));
    this.tables.push(this.partitionedTable(partitionedName));
    for (const table of this.tables) await createTable(db, table);
  }

  /** One change of one table. Rejects where a lock did not come in time. */
  async change(db: Client): Promise<{ readonly kind: string; readonly statements: string }> {
    const { table, kind, alteration } = this.randomChange();
    const { after, statements, also = [] } = alteration;
    const [before, later] = this.random.chance(0.4) ? this.changesAround(table, after) : [[], []];
    const gone = after.name === table.name ? [] : [table];
    await inTransaction(db, [...before, ...statements], gone, [after, ...also], later);
    this.tables = this.tables.map((one) => (one === table ? after : one));
    return { kind, statements: [...before, ...statements, ...later].join("; ") };
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
    const leaves = regions.map((region) => [region, this.leafName()] as const);
    return { ...this.randomTable(name, true), leaves: Object.fromEntries(leaves) };
  }

  private randomTable(name: string, composite = this.random.chance(0.4)): SimTable {
    const id = { name: "id", type: types.int4, nullable: false };
    const region = { name: "region", type: types.text, nullable: false };
    const columns: SimColumn[] = composite ? [region, id] : [id];
    for (let i = this.random.integer(2, 4); i > 0; i--) columns.push(this.randomColumn());
    if (!composite) columns.splice(this.random.integer(1, columns.length), 0, region);
    if (this.random.chance(0.6)) columns.push({ name: "body", type: types.long, nullable: true });
    return { name, columns, key: composite ? ["id", "region"] : ["id"] };
  }

  private randomColumn(): SimColumn {
    return { name: this.columnName(), type: this.random.pick(columnTypes), nullable: this.random.chance(0.5) };
  }

  private columnName(): string {
    return `c${++this.count}`;
  }

  private leafName(): string {
    return `leaf${++this.count}`;
  }

  /** Of a kind that has not been for long, on a table that it can be done to. */
  private randomChange(): { readonly table: SimTable; readonly kind: Kind; readonly alteration: Alteration } {
    const choices = this.random.shuffled(this.tables).map((table) => ({ table, changes: this.changesOf(table) }));
    for (const kind of this.kinds) {
      const choice = choices.find(({ changes }) => changes[kind]);
      if (!choice) continue;
      this.kinds.push(...this.kinds.splice(this.kinds.indexOf(kind), 1));
      return { table: choice.table, kind, alteration: choice.changes[kind]!() };
    }
    throw new Error("every table can be renamed");
  }

  /** What can be done to a table as it is. */
  private changesOf(table: SimTable): Partial<Record<Kind, () => Alteration>> {
    // Whose a row is, it says for as long as there is the table.
    const others = table.columns.filter(({ name }) => name !== "region" && !table.key.includes(name));
    const narrow = others.find(({ type }) => type === types.int4);
    const label = laterLabels[this.labels];
    const attached = regions.filter((region) => table.leaves?.[region] !== undefined);
    const missing = table.leaves ? regions.filter((region) => !attached.includes(region)) : [];
    return {
      "ADD COLUMN": () => this.addColumn(table, { ...this.randomColumn(), nullable: true }, ""),
      "ADD COLUMN, one value": () => this.addColumn(table, this.integerColumn(), " default 7"),
      "ADD COLUMN, many values": () => this.addColumn(table, this.integerColumn(), " default (random() * 30)::int"),
      RENAME: () => this.renameTable(table),
      "SET SCHEMA": () => setSchema(table),
      "DROP and CREATE": () => this.recreate(table),
      ...(label !== undefined && { "ADD VALUE": () => this.addLabel(table, label) }),
      ...(others.length > 1 && { "DROP COLUMN": () => dropColumn(table, this.random.pick(others)) }),
      ...(others.length > 0 && { "RENAME COLUMN": () => this.renameColumn(table, this.random.pick(others)) }),
      ...(narrow && { "ALTER TYPE": () => widen(table, narrow) }),
      // Rows of a region without a partition cannot be written: there is one at most.
      ...(attached.length === regions.length && {
        "DETACH PARTITION": () => this.detach(table, this.random.pick(attached)),
      }),
      ...(missing.length > 0 && { "ATTACH PARTITION": () => this.attach(table, this.random.pick(missing)) }),
    };
  }

  private integerColumn(): SimColumn {
    return { name: this.columnName(), type: types.int4, nullable: false };
  }

  private addColumn(table: SimTable, column: SimColumn, clause: string): Alteration {
    const statement = `alter table ${table.name} add column ${column.name} ${column.type.sql}${column.nullable ? "" : " not null"}${clause}`;
    return {
      after: { ...table, columns: [...table.columns, column] },
      statements: [statement],
    };
  }

  private renameColumn(table: SimTable, column: SimColumn): Alteration {
    const renamed = { ...column, name: this.columnName() };
    return {
      after: { ...table, columns: table.columns.map((one) => (one === column ? renamed : one)) },
      statements: [`alter table ${table.name} rename column ${column.name} to ${renamed.name}`],
    };
  }

  private renameTable(table: SimTable): Alteration {
    const taken = new Set(this.tables.map(({ name }) => withoutSchema(name)));
    const base = this.random.pick(laterNames.filter((name) => !taken.has(name)));
    const name = table.name.startsWith(other) ? other + base : base;
    return { after: { ...table, name }, statements: [`alter table ${table.name} rename to ${base}`] };
  }

  private recreate(table: SimTable): Alteration {
    const after = table.leaves ? this.partitionedTable(table.name) : this.randomTable(table.name);
    return { after, statements: [`drop table ${table.name}`, ...createStatements(after)] };
  }

  private addLabel(table: SimTable, label: string): Alteration {
    this.labels++;
    const also = this.tables.filter((one) => one !== table && one.columns.some(({ type }) => type === types.mood));
    return { after: table, statements: [`alter type mood add value '${label}'`], also };
  }

  private detach(table: SimTable, region: Region): Alteration {
    const { [region]: leaf, ...leaves } = table.leaves!;
    const statements = detachStatements(table.name, leaf!, this.random.chance(0.5));
    return { after: { ...table, leaves }, statements };
  }

  private attach(table: SimTable, region: Region): Alteration {
    const leaf = this.leafName();
    const after = { ...table, leaves: { ...table.leaves, [region]: leaf } };
    return { after, statements: attachStatements(table, leaf, region, this.random) };
  }
}

function setSchema(table: SimTable): Alteration {
  const isBack = table.name.startsWith(other);
  const base = withoutSchema(table.name);
  return {
    after: { ...table, name: isBack ? base : other + base },
    statements: [`alter table ${table.name} set schema ${isBack ? "public" : otherSchema}`],
  };
}

function dropColumn(table: SimTable, column: SimColumn): Alteration {
  return {
    after: { ...table, columns: table.columns.filter((one) => one !== column) },
    statements: [`alter table ${table.name} drop column ${column.name}`],
  };
}

function widen(table: SimTable, column: SimColumn): Alteration {
  const wide = { ...column, type: types.int8 };
  return {
    after: { ...table, columns: table.columns.map((one) => (one === column ? wide : one)) },
    statements: [`alter table ${table.name} alter column ${column.name} type bigint`],
  };
}

export async function createTable(db: Client, table: SimTable): Promise<void> {
  await inTransaction(db, createStatements(table), [], [table]);
}

function createStatements({ name, columns, key, leaves }: SimTable): string[] {
  const list = columns.map((column) => columnSql(column));
  const create = `create table ${name} (${list.join(", ")}, primary key (${key.join(", ")}))`;
  if (!leaves) return [create];
  const parts = Object.entries(leaves).map(([region, leaf]) => partitionStatement(name, leaf, region));
  return [`${create} partition by list (region)`, ...parts];
}
