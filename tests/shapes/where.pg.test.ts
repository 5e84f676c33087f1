/**
 * Predicates against the real Postgres: over generated rows and conditions, the closure, the SQL that is written out
 * again, and Postgres' own reading of the condition give the same of true, false and null, for every pair.
 * WALCAST_SEED repeats a run or makes another one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "pg";
import { migrate } from "../../engine/changes/setup.ts";
import { describeTable } from "../../engine/changes/catalog.ts";
import type { Tuple } from "../../engine/changes/tuple.ts";
import type { Table } from "../../engine/changes/table.ts";
import { WalcastError } from "../../engine/errors.ts";
import { PredicateIndex } from "../../engine/shapes/predicate-index.ts";
import {
  both,
  compileWhere,
  EvaluationFailed,
  everything,
  loadParser,
  type Predicate,
  selection,
} from "../../engine/shapes/where.ts";
import { quoteIdentifier, quoteLiteral } from "../../engine/shapes/name.ts";
import { testDatabase } from "../support/postgres.ts";
import { thorough } from "../support/thorough.ts";
import { documentColumns, documentTypes } from "./documents.ts";
import { type Condition, Conditions, patterns, Random, type SampleColumn, tupleOf } from "./generate.ts";

const seed = Number(process.env["WALCAST_SEED"] ?? 20_261_121);
const rowCount = 150;
const conditionCount = thorough(1_300, 400);
const computedCount = thorough(2_000, 600);

const integers = ["0", "1", "-1", "2", "10", "9", "32767", "-32768"];
const decimals = [
  "0",
  "0.0",
  "1.00",
  "1",
  "-1.5",
  "1.5",
  "1.50",
  "0.05",
  "0.5",
  "10.01",
  "100",
  "NaN",
  "Infinity",
  "-Infinity",
  "9007199254740993",
  "12345678901234567890.000000000000000000001",
];
const texts = [
  "",
  " ",
  "a",
  "A",
  "a ",
  "ab",
  "b",
  "ä",
  "z",
  "é",
  "é",
  "😀",
  "￿",
  "\\",
  "'",
  "a'b\\",
  "NULL",
  "null",
  "%",
  "\n",
  "{}",
  "1",
  "t",
  "aAbB",
  "-2.50",
  "1e3",
  " 70000 ",
  "inf",
  "Ääb",
  "a\nb",
  "a%b\\",
];
const dates = [
  "2000-01-01",
  "1999-12-31",
  "2024-02-29",
  "0044-03-15 BC",
  "0001-01-01 BC",
  "0001-01-01",
  "10000-01-01",
  "9999-12-31",
  "5874897-12-31",
  "4714-11-24 BC",
  "infinity",
  "-infinity",
];
const times = [
  "2000-01-01 00:00:00",
  "2000-01-01 00:00:00.1",
  "2000-01-01T00:00:00.000001",
  "2024-02-29 24:00",
  "0044-03-15 12:00:00 BC",
  "10000-01-01 01:02:03.4",
  "9999-12-31 23:59:59.999999",
  "294276-12-31 23:59:59.999999",
  "infinity",
  "-infinity",
  "1969-12-31 23:59",
  "4714-11-24 00:00 BC",
];
const uuids = [
  "00000000-0000-0000-0000-000000000000",
  "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
  "{a0eebc99-9c0b4ef8-bb6d6bb9bd380a12}",
  "a0eebc999c0b4ef8bb6d6bb9bd380a11",
  "ffffffff-ffff-ffff-ffff-ffffffffffff",
];
const labels = ["sad", "ok", "Hap'py", "ok "];

const floats = [
  "0",
  "-0",
  "1.5",
  "-1.5",
  "0.1",
  "1",
  "2.5",
  "10",
  "NaN",
  "Infinity",
  "-Infinity",
  "16777217",
  "1e-30",
  "3e38",
];
const bytes = ["\\x", "\\x00", "\\xFF", "\\x 00 ff", "abc", "a\\\\b", "\\000\\377", "ä"];
const spans = [
  "1 mon",
  "30 days",
  "720:00:00",
  "-1 day",
  "1 day -01:00",
  "0:00",
  "1 year 2 mons -3 days +04:05:06.7",
  "P1Y2M",
  "PT36H",
  "178000000 years",
];
const clocks = ["00:00:00", "24:00", "12:30", "12:30:00.5", "23:59:59.999999", "01:02:03"];
const zonedClocks = ["12:00+00", "14:00+02", "12:00:00.5-05:30", "24:00:00Z", "00:00-15:59:59", "10:00-02"];

const columns: readonly SampleColumn[] = [
  { name: "i2", type: "smallint", family: "number", values: integers },
  { name: "i4", type: "int", family: "number", values: [...integers, "2147483647", "-2147483648"] },
  {
    name: "i8",
    type: "bigint",
    family: "number",
    values: [...integers, "9007199254740992", "9007199254740993", "9223372036854775807", "-9223372036854775808"],
  },
  { name: "n", type: "numeric", family: "number", values: [...decimals, "1e10", "1e-10", ".5", "5.", "-0.0"] },
  {
    name: "n2",
    type: "numeric(12,2)",
    cast: "numeric",
    family: "number",
    values: ["0", "1.00", "1.50", "10.01", "-1.5", "100", "NaN"],
  },
  { name: "di", type: "positive", family: "number", values: ["1", "2", "10"] },
  { name: "f4", type: "real", family: "number", values: [...floats, "1e-45"] },
  {
    name: "f8",
    type: "double precision",
    family: "number",
    values: [...floats, "1e23", "1e300", "5e-324", "0.30000000000000004"],
  },
  { name: "f8b", type: "float8", family: "number", values: floats },
  { name: "by", type: "bytea", family: "bytea", values: bytes },
  { name: "by2", type: "bytea", family: "bytea", values: bytes },
  { name: "iv", type: "interval", family: "interval", values: spans },
  { name: "iv2", type: "interval", family: "interval", values: spans },
  { name: "ti", type: "time", family: "time", values: clocks },
  { name: "ti2", type: "time", family: "time", values: clocks },
  { name: "tt", type: "timetz", family: "timetz", values: zonedClocks },
  { name: "tt2", type: "timetz", family: "timetz", values: zonedClocks },
  { name: "__proto__", type: "int", family: "number", values: integers },
  { name: "tx", type: "text", family: "text", values: texts },
  { name: 'Sel"ect', type: "varchar(20)", cast: "varchar", family: "text", values: texts },
  { name: "tc", type: 'text collate "C"', cast: "text", family: "text", values: texts },
  { name: "nd", type: "text collate case_insensitive", cast: "text", family: "text", values: texts },
  { name: "dt", type: "word", family: "text", values: texts },
  {
    name: "bp",
    type: "char(5)",
    cast: "bpchar",
    family: "bpchar",
    values: ["", " ", "a", "a ", "ab", "A", "ä", "b\t"],
  },
  { name: "b", type: "boolean", family: "boolean", values: ["true", "f", "yes", "off", "1", " TRUE "] },
  { name: "b2", type: "boolean", family: "boolean", values: ["t", "false"] },
  { name: "d", type: "date", family: "moment", values: dates },
  { name: "d2", type: "date", family: "moment", values: dates },
  { name: "ts", type: "timestamp", family: "moment", values: [...times, "2000-01-01 00:00:00+05:30", "2000-01-01"] },
  {
    name: "tz",
    type: "timestamptz",
    family: "moment",
    values: [...times, "2000-01-01 00:00:00+05:30", "1999-12-31T19:00:00-05"],
  },
  { name: "tz2", type: "timestamptz", family: "moment", values: times },
  { name: "u", type: "uuid", family: "uuid", values: uuids },
  { name: "u2", type: "uuid", family: "uuid", values: uuids },
  { name: "e", type: '"My Schema"."Mood"', family: "enum", values: labels },
  { name: "de", type: "some_mood", family: "none", values: [] },
  { name: "constructor", type: "jsonb", family: "none", values: [] },
];

const allColumns = [...columns, ...documentColumns];

/** Without statistics, which are rows' values: planning tries conditions on those, and fails for all rows where it does for one of them. */
const types = `
  create schema "My Schema";
  create type "My Schema"."Mood" as enum ('sad', 'ok', 'Hap''py', 'ok ');
  create domain some_mood as "My Schema"."Mood";
  create domain positive as int check (value > 0);
  create domain word as text collate "C";
  create collation case_insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  ${documentTypes}
  create table public.nasty (${allColumns.map(({ name, type }) => `${quoteIdentifier(name)} ${type}`).join(", ")})
    with (autovacuum_enabled = off);`;

test("a predicate answers as Postgres does, for every row", async () => {
  await loadParser();
  const { client, table, rows } = await nastyRows();
  const conditions = acceptedConditions(new Random(seed), table, false);
  const answers = conditions.map(({ predicate }) => rows.map((row) => predicate.matches(row)));
  await compare(client, "Postgres", conditions, answers, ({ condition }) => condition.inlined);
  await client.query("set search_path = pg_catalog");
  await compare(client, "its own SQL", conditions, answers, ({ predicate }) => predicate.sql);
  for (const [i, { predicate }] of conditions.entries()) {
    const selected = answers[i]!.map((answer) => (answer === true ? "t" : "f"));
    assert.deepEqual(
      foundIn(selection(predicate), rows),
      selected,
      `seed ${seed}: the index differs on ${predicate.sql}`,
    );
  }
});

test("what is computed is what Postgres computes, and fails where it fails", async () => {
  await loadParser();
  const { client, table, rows } = await nastyRows();
  const conditions = [
    ...acceptedConditions(new Random(seed + 2), table, true),
    ...matches(table),
    ...floatCasts(table),
  ];
  const answers = conditions.map(({ predicate }) => rows.map((row) => verdict(predicate, row)));
  await compareVerdicts(client, conditions, answers);
  assert(
    conditions.length * rows.length > thorough(100_000, 50_000),
    `seed ${seed}: only ${conditions.length} conditions are compared`,
  );
  const failing = answers.filter((list) => list.includes("error"));
  assert(failing.length > thorough(50, 20), `seed ${seed}: only ${failing.length} conditions fail for a row`);
});

test("jsonb and arrays answer as in Postgres", async () => {
  await loadParser();
  const { client, table, rows } = await nastyRows();
  const all = acceptedConditions(new Random(seed + 4), table, false, documentColumns).slice(0, 800);
  const conditions = all.filter(({ predicate }) => !predicate.mayFail);
  const answers = conditions.map(({ predicate }) => rows.map((row) => predicate.matches(row)));
  await compare(client, "Postgres", conditions, answers, ({ condition }) => condition.inlined);
  await client.query("set search_path = pg_catalog");
  await compare(client, "its own SQL", conditions, answers, ({ predicate }) => predicate.sql);
  await client.query("reset search_path");
  const failing = all.filter(({ predicate }) => predicate.mayFail).slice(0, thorough(150, 40));
  await compareVerdicts(
    client,
    failing,
    failing.map(({ predicate }) => rows.map((row) => verdict(predicate, row))),
  );
});

/** One by one: a condition that fails for a row must not hide the others. */
async function compareVerdicts(
  client: Client,
  accepted: readonly Accepted[],
  answers: readonly Verdict[][],
): Promise<void> {
  for (const [i, { condition, predicate }] of accepted.entries())
    assert.deepEqual(await verdicts(client, condition.inlined), answers[i], told("Postgres", condition, predicate));
  await client.query("set search_path = pg_catalog");
  for (const [i, { condition, predicate }] of accepted.entries())
    assert.deepEqual(await verdicts(client, predicate.sql), answers[i], told("its own SQL", condition, predicate));
}

test("a shape selects, and fails for, the rows that its SQL does, and the index leads to all of them", async () => {
  await loadParser();
  const { client, table, rows } = await nastyRows();
  const failing = (asked: readonly SampleColumn[], computed: boolean): Accepted[] =>
    acceptedConditions(new Random(seed + 3), table, computed, asked).filter(({ predicate }) => predicate.mayFail);
  const conditions = [
    ...failing(columns, true).slice(0, thorough(120, 30)),
    ...failing(documentColumns, false).slice(0, thorough(40, 10)),
  ];
  for (const [i, { predicate }] of conditions.entries()) {
    const rule = conditions[i - 1]?.predicate ?? everything;
    for (const shape of [predicate, both(rule, predicate)].map(selection)) {
      const ours = rows.map((row) => verdict(shape, row) ?? "f");
      assert.deepEqual(
        ours,
        await verdicts(client, shape.sql, true),
        `seed ${seed}: its own SQL differs on ${shape.sql}`,
      );
      assert.deepEqual(foundIn(shape, rows), ours, `seed ${seed}: the index differs on ${shape.sql}`);
    }
  }
});

test("a guarded predicate answers as its SQL does", async () => {
  await loadParser();
  const { client, table, rows } = await nastyRows();
  const parts = acceptedConditions(new Random(seed + 1), table, false).slice(0, thorough(300, 100));
  const guarded = parts
    .slice(1)
    .map(({ predicate, condition }, i) => ({ predicate: both(parts[i]!.predicate, predicate), condition }));
  const answers = guarded.map(({ predicate }) => rows.map((row) => predicate.matches(row) === true));
  await client.query("set search_path = pg_catalog");
  await compare(client, "its own SQL", guarded, answers, ({ predicate }) => `(${predicate.sql}) IS TRUE`);
});

test("what we write for a constant is what Postgres prints for it", async () => {
  await loadParser();
  const { client, table } = await nastyRows();
  for (const { name, type, values } of allColumns) {
    for (const value of values) {
      const { rows } = await client.query<[string]>({
        text: `select ${quoteLiteral(value)}::${type.replace(/ collate.*/, "")}`,
        rowMode: "array",
      });
      const printed = tupleOf(table.columns.map(() => rows[0]![0]));
      const predicate = compileWhere(
        `${quoteIdentifier(name)} ${type.endsWith("case_insensitive") ? 'collate "C"' : ""} = $1`,
        [value],
        table,
      );
      assert.equal(
        predicate.matches(printed),
        true,
        `${type} ${JSON.stringify(value)}, printed ${JSON.stringify(rows[0]![0])}`,
      );
    }
  }
});

interface Accepted {
  readonly condition: Condition;
  readonly predicate: Predicate;
}

/** Conditions that we take: Postgres must take them all. A good part of what is generated has to be among them. */
function acceptedConditions(random: Random, table: Table, computed: boolean, asked = columns): Accepted[] {
  const conditions = new Conditions(random, asked, computed);
  const count = computed ? computedCount : conditionCount;
  const generated = Array.from({ length: count }, () => conditions.next());
  const accepted = generated.flatMap((condition) => compiled(condition, table) ?? []);
  assert(
    accepted.length > count / (computed ? 4 : 2),
    `seed ${seed}: only ${accepted.length} of ${count} conditions were accepted`,
  );
  return accepted;
}

/** Every text of the column with every pattern. */
function matches(table: Table): Accepted[] {
  return [...patterns, ...texts].flatMap((pattern) =>
    ["LIKE", "ILIKE"].map((operator) => written(`tc ${operator} ${quoteLiteral(pattern)}`, table)),
  );
}

/** The digits that a float is printed with, and those that it has as a numeric. */
function floatCasts(table: Table): Accepted[] {
  const casts = [
    "f4::text",
    "f8::text",
    "f4::float8::text",
    "f4::numeric::text",
    "f8::numeric::text",
    "n::float4::text",
    "i8::float4::text",
  ];
  const printed = ["%e+__", "%e-%", "%.%", "1%", "%1", "-0"].map((pattern) => `LIKE '${pattern}'`);
  const lengths = [1, 2, 3, 4, 5, 8, 13, 17, 18, 20, 40].map((length) => `= ${length}`);
  return casts.flatMap((cast) => [
    ...printed.map((like) => written(`${cast} ${like}`, table)),
    ...lengths.map((equal) => written(`length(${cast}) ${equal}`, table)),
  ]);
}

function written(where: string, table: Table): Accepted {
  return { condition: { where, params: [], inlined: where }, predicate: compileWhere(where, [], table) };
}

function compiled(condition: Condition, table: Table): Accepted | undefined {
  try {
    return { condition, predicate: compileWhere(condition.where, condition.params, table) };
  } catch (error) {
    if (error instanceof WalcastError && ["where_unsupported", "where_type", "where_failed"].includes(error.code))
      return undefined;
    throw error;
  }
}

type Verdict = "t" | "f" | "error" | null;

function verdict(predicate: Pick<Predicate, "matches">, row: Tuple): Verdict {
  try {
    const answer = predicate.matches(row);
    return answer === null ? null : answer ? "t" : "f";
  } catch (error) {
    assert(error instanceof EvaluationFailed, String(error));
    return "error";
  }
}

function foundIn(shape: Predicate, rows: readonly Tuple[]): Verdict[] {
  const index = new PredicateIndex<string>();
  index.add(shape, "shape");
  return rows.map((row) => indexed(index, row));
}

function indexed(index: PredicateIndex<string>, row: Tuple): Verdict {
  let found: Verdict = "f";
  index.expect([row], 1);
  index.candidates(row, 0, (candidate) => {
    found = verdict({ matches: () => candidate.holds(row) }, row) ?? "f";
  });
  return found;
}

function told(who: string, { where, params }: Condition, { sql }: Predicate): string {
  return `seed ${seed}: ${who} differs on ${where} with ${JSON.stringify(params)}, normalised ${sql}`;
}

/** What Postgres answers for each row; where the condition selects, unknown is false. */
async function verdicts(client: Client, condition: string, selects = false): Promise<Verdict[]> {
  const selected = `ctid in (select ctid from public.nasty where ${condition})`;
  try {
    const { rows } = await client.query<[Verdict]>({
      text: `select (${selects ? selected : condition})::pg_catalog.bool from public.nasty order by ctid`,
      rowMode: "array",
    });
    return rows.map(([answer]) => answer);
  } catch (error) {
    if (isDataException(error)) return verdictsOneByOne(client, condition, selects);
    return assert.fail(`seed ${seed}: Postgres refuses ${condition}: ${(error as Error).message}`);
  }
}

function isDataException(error: unknown): boolean {
  return /^22|^0A000$/.test((error as { code?: string }).code ?? "");
}

/** A row that fails must not hide the others. In one function: a query for each row would take a hundred times as long. */
async function verdictsOneByOne(client: Client, condition: string, selects: boolean): Promise<Verdict[]> {
  const row = "from public.nasty where ctid = place";
  const answer = selects
    ? `select exists (select ${row} and ${condition})`
    : `select (${condition})::pg_catalog.bool ${row}`;
  await client.query(`
    create or replace function pg_temp.verdicts() returns setof text language plpgsql as ${quoteLiteral(`
    declare
      place tid;
      answer bool;
    begin
      for place in select ctid from public.nasty order by ctid loop
        begin
          answer := (${answer});
          return next case answer when true then 't' when false then 'f' end;
        exception when data_exception or feature_not_supported then
          return next 'error';
        end;
      end loop;
    end`)}`);
  const { rows } = await client.query<[Verdict]>({ text: "select pg_temp.verdicts()", rowMode: "array" });
  return rows.map(([verdict]) => verdict);
}

/** A connection of one's own to a database that all tests here share. */
async function nastyRows() {
  const { url, table, rows } = await (nasty ??= makeNastyRows());
  return { client: await connected(url), table, rows };
}

let nasty: ReturnType<typeof makeNastyRows> | undefined;

async function makeNastyRows() {
  const database = await testDatabase();
  await migrate(database.url);
  const client = await connected(database.url);
  await client.query(types);
  const random = new Random(seed);
  const made = Array.from({ length: rowCount }, () => `(${allColumns.map((one) => valueSql(random, one)).join(", ")})`);
  await client.query(`insert into nasty values ${made.join(", ")}`);
  const { rows: oids } = await client.query<{ oid: string }>("select 'nasty'::regclass::oid as oid");
  const table = await describeTable(database.pool, Number(oids[0]!.oid));
  const { rows } = await client.query<(string | null)[]>({
    text: "select * from nasty order by ctid",
    rowMode: "array",
  });
  return { url: database.url, table: table!, rows: rows.map(tupleOf) };
}

async function connected(url: string): Promise<Client> {
  const client = new Client({
    connectionString: url,
    types: { getTypeParser: () => (text: string | Buffer) => String(text) },
  });
  await client.connect();
  // The database goes when the file's tests are over, and its connections with it.
  client.on("error", () => undefined);
  await client.query("set timezone = 'UTC'; set datestyle = 'ISO'");
  return client;
}

function valueSql(random: Random, column: SampleColumn): string {
  return random.chance(25) || column.values.length === 0 ? "NULL" : quoteLiteral(random.of(column.values));
}

/** Many conditions in one query; when one is refused, they are asked one by one to name it. */
async function compare(
  client: Client,
  who: string,
  accepted: readonly Accepted[],
  answers: readonly (boolean | null)[][],
  sqlOf: (accepted: Accepted) => string,
): Promise<void> {
  const atOnce = 300;
  for (let start = 0; start < accepted.length; start += atOnce) {
    const chunk = accepted.slice(start, start + atOnce);
    const rows = await evaluate(client, chunk.map(sqlOf));
    chunk.forEach(({ condition, predicate }, i) => {
      const found = rows.map((row) => (row[i] === null ? null : row[i] === "t"));
      assert.deepEqual(answers[start + i], found, told(who, condition, predicate));
    });
  }
}

async function evaluate(client: Client, expressions: readonly string[]): Promise<(string | null)[][]> {
  const select = (list: readonly string[]) =>
    client.query<(string | null)[]>({
      text: `select ${list.map((sql) => `(${sql})::pg_catalog.bool`).join(", ")} from public.nasty order by ctid`,
      rowMode: "array",
    });
  try {
    return (await select(expressions)).rows;
  } catch (error) {
    for (const expression of expressions)
      await select([expression]).catch((cause: Error) =>
        assert.fail(`seed ${seed}: Postgres refuses ${expression}: ${cause.message}`),
      );
    throw error;
  }
}
