/**
 * A value has one text form, whichever way it came: by COPY in a snapshot, or by pgoutput in the stream. Byte for byte,
 * over the built-in types and the values that display settings would change, whatever a role or a URL has set.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { quoteLiteral } from "../../engine/shapes/name.ts";
import { RawClient } from "../sockets/raw-client.ts";
import { type Running, running } from "../sockets/running.ts";
import { testDatabase } from "../support/postgres.ts";
import { engines } from "./returning.ts";

const values: Readonly<Record<string, readonly string[]>> = {
  bool: ["t", "f"],
  int2: ["-32768"],
  int4: ["2147483647"],
  int8: ["-9223372036854775808"],
  oid: ["4294967295"],
  numeric: ["NaN", "Infinity", "-Infinity", "1.10", "-0.000", "1e1000", `0.${"1".repeat(2000)}`],
  "numeric(12,4)": ["1", "-0.00005"],
  float4: ["0.1", "-0", "NaN", "Infinity", "1e-45", "3.4028235e38"],
  float8: ["0.1", "-0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e308", "0.30000000000000004"],
  money: ["1234567.895", "-0.01"],
  text: ["", "\\", "\\N", "tab\tnewline\nreturn\rvertical\u000bbell\u0008feed\f", "é😀", "\ufeff", "'\"", "NULL"],
  varchar: ["trailing  "],
  "char(5)": ["a", "", "é"],
  bpchar: ["a  "],
  '"char"': ["a", ""],
  name: ["a name"],
  bytea: ["\\x", "\\x00ff5c0a", "\\x5c4e"],
  date: ["2026-03-01", "0044-03-15 BC", "infinity", "-infinity", "5874897-12-31", "4713-11-24 BC"],
  time: ["24:00", "00:00:00.000001"],
  timetz: ["23:59:59.999999+15:59", "00:00-03"],
  timestamp: ["2026-03-01 12:00", "0001-01-01 BC", "294276-12-31 23:59:59.999999", "infinity"],
  timestamptz: ["2026-03-01 12:00+05:30", "1883-11-18 12:00 America/New_York", "-infinity", "4714-11-24 00:00+00 BC"],
  interval: ["1 year -2 mons 3 days -04:05:06.7", "0", "-1 day +23:59:59", "178000000 years"],
  uuid: ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
  json: ["null", '{"a" : 1,  "a":2, "é":"\\u0000"}', '"\\t"'],
  jsonb: ["null", '{"b":1.10, "a": [1e3, "\\\\"]}'],
  jsonpath: ["$.a[*] ? (@ > 1)"],
  xml: ["<a b='1'>é&amp;</a>", "text"],
  "bit(5)": ["10101"],
  "bit varying": ["", "101"],
  inet: ["10.0.0.1/8", "::ffff:1.2.3.4"],
  cidr: ["10.0.0.0/8"],
  macaddr: ["08-00-2b-01-02-03"],
  macaddr8: ["08:00:2b:01:02:03:04:05"],
  point: ["(1,-0)", "(NaN,Infinity)"],
  box: ["((1,2),(3,4))"],
  circle: ["<(0.1,2),3>"],
  path: ["[(1,2),(3,4)]", "((1,2))"],
  line: ["{1,2,3}"],
  lseg: ["[(1,2),(3,4)]"],
  polygon: ["((1,2),(3,4),(5,6))"],
  tsvector: ["'a':1A 'é b':2"],
  tsquery: ["'a' & !'b' <-> 'c'"],
  pg_lsn: ["16/B374D848"],
  xid8: ["18446744073709551615"],
  pg_snapshot: ["10:20:10,14,15"],
  tid: ["(0,1)"],
  regclass: ["public.forms", "pg_class", "0"],
  regtype: ["public.mood", "integer", "interval"],
  regproc: ["public.a_function", "now"],
  regprocedure: ["public.a_function(public.mood)"],
  regnamespace: ["public"],
  int4range: ["empty", "[1,5)", "(,)", "[1,]"],
  tstzrange: ['["2026-01-01 00:00+02",infinity)'],
  daterange: ["[2026-01-01,2026-01-02]"],
  int4multirange: ["{}", "{[1,2),[5,7)}"],
  "int4[]": ["{}", "[-2:0]={1,NULL,3}", "{{1,2},{3,4}}"],
  "text[]": ['{"",NULL,"NULL","a,b","\\"\\\\",é}'],
  "timestamptz[]": ["{2026-03-01 12:00+05,infinity}"],
  "bytea[]": ['{"\\\\x00ff"}'],
  "public.mood": ["calm", "it's 'so'"],
  "public.a_domain": ["calm"],
  "public.pair": ['(1,"a ""b"" \\\\")', "(,)", '(,"")'],
  "public.pair[]": ['{"(1,\\"x y\\")",NULL}'],
  "public.moods": ["[calm,calm]"],
};

const schema = `
  create type mood as enum ('calm', 'it''s ''so''');
  create domain a_domain as mood;
  create type pair as (a int, b text);
  create type moods as range (subtype = text);
  create function a_function(mood) returns int language sql as 'select 1'`;

const types = Object.keys(values);
const columns = types.map((_, i) => `c${i}`);

async function fill(server: Running, from: number): Promise<string> {
  const longest = Math.max(...Object.values(values).map((list) => list.length));
  const rows: string[] = [];
  for (let i = 0; i < longest; i++)
    rows.push(`(${from + i}, ${types.map((type) => literal(values[type]![i], type)).join(", ")})`);
  return server.transaction(
    `set local search_path = public, pg_catalog`,
    `insert into forms values ${rows.join(", ")}`,
  );
}

function literal(value: string | undefined, type: string): string {
  return value === undefined ? "null" : `${quoteLiteral(value)}::${type}`;
}

test("the text of every value is the same in the snapshot and in the stream", async (t) => {
  const server = await running(
    {},
    `${schema}; create table forms (id int primary key, ${types.map((type, i) => `${columns[i]} ${type}`).join(", ")})`,
  );
  t.after(() => server.close());
  await fill(server, 1);
  const client = await server.greeted();
  const { lines } = await client.load(1, { table: "forms" });
  await fill(server, 1_001);
  const { operations } = await client.commit(1);
  assert.equal(operations.length, lines.length);
  const streamed = new Map(
    operations.map((operation) => [
      operation.kind === "insert" ? Number(operation.row[0]) - 1_000 : 0,
      operation.kind === "insert" ? operation.row : [],
    ]),
  );
  for (const line of lines) compare(copied(line), streamed.get(Number(line.split("\t")[0]))!);
});

function compare(copied: readonly (string | null)[], streamed: readonly (string | null | undefined)[]): void {
  types.forEach((type, i) => assert.equal(streamed[i + 1], copied[i + 1], type));
}

const escapes: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\" };

function copied(line: string): (string | null)[] {
  return line
    .split("\t")
    .map((field) => (field === "\\N" ? null : field.replace(/\\(.)/g, (_, letter: string) => escapes[letter]!)));
}

const settings: Readonly<Record<string, string>> = {
  DateStyle: "German,DMY",
  IntervalStyle: "iso_8601",
  TimeZone: "Japan",
  bytea_output: "escape",
  extra_float_digits: "0",
  xmloption: "document",
  standard_conforming_strings: "off",
  client_encoding: "LATIN1",
  search_path: "public",
};

const shown = [
  "2026-03-01",
  "2026-03-01 06:30:00+00",
  "1 day 02:00:00",
  "\\x00ff",
  "0.30000000000000004",
  "€",
  "public.forms",
  "$1.50",
];
const oneRow =
  "'2026-03-01', '2026-03-01 12:00+05:30', '1 day 2 hours', '\\x00ff', 0.30000000000000004, '€', 'public.forms', '1.5'";

for (const by of ["ALTER ROLE … SET", "ALTER DATABASE … SET", "options in the database's URL"]) {
  test(`no setting by ${by} changes a value's text`, async (t) => {
    const db = await testDatabase();
    const role = db.name;
    await db.query(
      `create role ${role} superuser login password 'p'; create table forms (id int primary key, d date, t timestamptz, i interval, b bytea, f float8, e text, c regclass, m money)`,
    );
    const url = new URL(db.url);
    url.username = role;
    url.password = "p";
    if (by.startsWith("options"))
      url.searchParams.set(
        "options",
        Object.entries(settings)
          .map(([name, value]) => `-c ${name}=${value}`)
          .join(" "),
      );
    else {
      const altered = by.startsWith("ALTER ROLE") ? `role ${role}` : `database ${db.name}`;
      for (const [name, value] of Object.entries(settings)) await db.query(`alter ${altered} set ${name} = ${value}`);
    }
    const engine = await (await engines(url.href, role, t)).start();
    t.after(async () => {
      await engine.close();
      await db.query(`drop owned by ${role} cascade; drop role ${role}`);
      await db.drop();
    });
    await db.query(`insert into forms values (1, ${oneRow})`);
    const client = await RawClient.greeted(engine.url);
    const { lines } = await client.load(1, { table: "forms" });
    await db.query(`insert into forms values (2, ${oneRow})`);
    const [operation] = (await client.commit(1)).operations;
    assert.deepEqual(copied(lines[0]!), ["1", ...shown]);
    assert.deepEqual(operation, { kind: "insert", row: ["2", ...shown] });
    await client.close();
  });
}
