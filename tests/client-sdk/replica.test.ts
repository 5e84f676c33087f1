import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import fc from "fast-check";

import { claim } from "../../client-sdk/claim.ts";
import { Database } from "../../client-sdk/database.ts";
import type { Load } from "../../client-sdk/joins.ts";
import type { Member } from "../../client-sdk/local-tables.ts";
import { Replica } from "../../client-sdk/replica.ts";
import { decodeCommits, type Lsn, type Operation, type TableDescription, type Value } from "../../engine/protocol.ts";
import { copyLine, encodeCommits } from "../support/payload.ts";
import { emptyReplica } from "../support/replica.ts";
import { thorough } from "../support/thorough.ts";
import { forgetEverything } from "./emptied.ts";
import { commit, table } from "./peer.ts";

// Starting a PGlite costs seconds; a new Replica on the same one, emptied, begins from nothing just as well.
let pglite: PGlite;
let database: Database;

before(async () => {
  pglite = await emptyReplica();
  database = new Database(claim(pglite));
  await database.open();
});
after(() => pglite.close());

const items = table("items", ["id integer", "name text"]);

test("keys shifted and swapped inside one transaction collide nowhere", () => {
  const replica = new Subject();
  replica.load(1, items, [
    ["1", "a"],
    ["2", "b"],
    ["3", "c"],
  ]);
  replica.change(1, [moved("3", "4", "c"), moved("2", "3", "b"), moved("1", "2", "a")]);
  assert.deepEqual(contents(), [
    [2, "a"],
    [3, "b"],
    [4, "c"],
  ]);
  replica.change(1, [moved("2", "-1", "a"), moved("4", "2", "c"), moved("-1", "4", "a")]);
  assert.deepEqual(contents(), [
    [2, "c"],
    [3, "b"],
    [4, "a"],
  ]);
});

test("a truncate takes what was before it and leaves what comes after, loaded rows included", () => {
  const replica = new Subject();
  replica.load(1, items, [["1", "loaded"]], [inserted("2", "caught up"), { kind: "truncate" }, inserted("3", "kept")]);
  assert.deepEqual(contents(), [[3, "kept"]]);
  replica.change(1, [inserted("4", "gone"), { kind: "truncate" }, inserted("3", "again"), inserted("5", "new")]);
  assert.deepEqual(contents(), [
    [3, "again"],
    [5, "new"],
  ]);
});

test("an unchanged value keeps what the row has, whatever moved in the same batch", () => {
  const replica = new Subject();
  replica.load(1, table("items", ["id integer", "name text", "body text"]), [
    ["1", "a", "long"],
    ["2", "b", "longer"],
  ]);
  replica.change(1, [
    { kind: "update", oldKey: ["1"], row: ["3", "a", undefined] },
    { kind: "update", row: ["3", "a2", undefined] },
    { kind: "update", row: ["2", "b", "short"] },
    { kind: "update", row: ["2", "b2", undefined] },
  ]);
  assert.deepEqual(contents(), [
    [2, "b2", "short"],
    [3, "a2", "long"],
  ]);
});

test("rows that were there stay until the new ones replace them, with their new columns", () => {
  const replica = new Subject();
  replica.load(1, items, [["1", "old"]]);
  const wider = table("items", ["id integer", "name text", "price numeric(12,2)"], ["id"], { version: "2" });
  const load = replica.describe(1, wider, [["1", "new", "3.50"]]);
  assert.deepEqual(contents(), [[1, "old"]]);
  replica.join(load);
  assert.deepEqual(contents(), [[1, "new", "3.50"]]);
  replica.change(1, [{ kind: "update", row: ["1", "newer", "4.00"] }]);
  assert.deepEqual(contents(), [[1, "newer", "4.00"]]);
});

test("views and indexes that an application made survive a reload", () => {
  const replica = new Subject();
  replica.load(1, items, [["1", "a"]]);
  database.transaction(() => database.script("CREATE INDEX items_by_name ON items (name)"));
  replica.load(1, items, [["2", "b"]]);
  database.transaction(() => database.script("CREATE VIEW item_names AS SELECT name FROM items"));
  replica.load(1, items, [["3", "c"]]);
  assert.deepEqual(contents("SELECT name FROM item_names"), [["c"]]);
  assert.deepEqual(
    contents("SELECT indexname::text FROM pg_indexes WHERE tablename = 'items' AND indexname NOT LIKE '%pkey'"),
    [["items_by_name"]],
  );
});

test("a wanted index is there as soon as the rows are", () => {
  const replica = new Subject();
  replica.load(1, items, [["1", "a"]], [], ["name DESC, id"]);
  replica.load(1, items, [["1", "a"]], [], ["name DESC, id"]);
  assert.deepEqual(
    contents(
      "SELECT split_part(indexdef, ' USING ', 2) FROM pg_indexes WHERE tablename = 'items' AND indexname NOT LIKE '%pkey'",
    ),
    [["btree (name DESC, id)"]],
  );
});

test("a row leaves a shared table only when no shape holds it any more", () => {
  const replica = new Subject();
  replica.load(1, items, [
    ["1", "a"],
    ["2", "b"],
  ]);
  replica.load(2, items, [
    ["2", "b"],
    ["3", "c"],
  ]);
  assert.deepEqual(contents(), [
    [1, "a"],
    [2, "b"],
    [3, "c"],
  ]);
  replica.change(1, [
    { kind: "delete", key: ["1"] },
    { kind: "delete", key: ["2"] },
  ]);
  assert.deepEqual(contents(), [
    [2, "b"],
    [3, "c"],
  ]);
  replica.remove(2);
  assert.deepEqual(contents(), []);
});

test("a shape that is loaded again beside another exchanges its own rows only", () => {
  const replica = new Subject();
  replica.load(1, items, [
    ["1", "a"],
    ["2", "b"],
  ]);
  replica.load(2, items, [
    ["2", "b"],
    ["3", "c"],
  ]);
  replica.load(
    2,
    items,
    [
      ["2", "b"],
      ["4", "d"],
    ],
    [{ kind: "delete", key: ["2"] }],
  );
  assert.deepEqual(contents(), [
    [1, "a"],
    [2, "b"],
    [4, "d"],
  ]);
});

const many = Array.from({ length: 3_000 }, (_, i) => String(i));
const awkward = [null, "", "\\", "\\N", "\\.", "a\tb", "a\nb\r\n", "NULL", '{"a,b"}', "ö…😀", " ", "\\\\t"];
const awkwardOf = (id: string): string | null => awkward[Number(id) % awkward.length]!;
const named = (rows: readonly (readonly [string, string | null])[]): unknown[] =>
  rows.map(([id, name]) => [Number(id), name]);

test("many new rows at once are what they would be one by one, in any number of payloads and commits", () => {
  const replica = new Subject();
  replica.load(1, items, []);
  replica.load(2, table("others", ["id integer", "name text"]), []);
  const rows = many.map((id) => [id, awkwardOf(id)] as const);
  const operations = rows.map((row) => inserted(...row));
  replica.receive(1, [
    encodeCommits([commit(1n, ...operations.slice(0, 10)), commit(2n)]),
    encodeCommits([commit(3n, ...operations.slice(10, 1_500)), commit(4n, ...operations.slice(1_500))]),
  ]);
  assert.deepEqual(contents(), named(rows));
  replica.changeAll([many.map((id) => inserted(String(Number(id) + 5_000), "more")), operations]);
  assert.deepEqual(contents("SELECT count(*)::int FROM items"), [[6_000]]);
  assert.deepEqual(contents("SELECT * FROM others ORDER BY 1"), named(rows));
});

test("many new rows, of which some are there or come twice, are as they came last", () => {
  const replica = new Subject();
  replica.load(1, items, [["7", "loaded"]]);
  const operations = many.map((id) => inserted(id, "new"));
  replica.change(1, operations);
  assert.deepEqual(contents(), named(many.map((id) => [id, "new"])));
  replica.change(1, [...many.map((id) => inserted(String(Number(id) + 9_000), "first")), inserted("9005", "second")]);
  assert.deepEqual(contents("SELECT count(*)::int, min(name), max(name) FROM items WHERE id >= 9000"), [
    [3_000, "first", "second"],
  ]);
});

test("any text of many new rows stays what it is", () => {
  const replica = new Subject();
  replica.load(1, items, []);
  awkward.forEach((text, n) => {
    replica.change(
      1,
      many.slice(0, 1_100).map((id) => inserted(String(Number(id) + 10_000 * n), text)),
    );
    assert.deepEqual(
      contents(`SELECT DISTINCT name FROM items WHERE id >= ${10_000 * n}`),
      [[text]],
      JSON.stringify(text),
    );
  });
});

test("many new rows of a table that shapes share belong to the shape they came for", () => {
  const replica = new Subject();
  for (const shape of [1, 2]) replica.load(shape, items, []);
  replica.change(
    1,
    many.map((id) => inserted(id, "first's")),
  );
  replica.change(2, [inserted("5", "both's")]);
  replica.change(2, [{ kind: "delete", key: ["5"] }]);
  assert.deepEqual(contents("SELECT count(*)::int FROM items"), [[3_000]]);
});

test("a transaction that cannot be applied leaves rows and position as they were", () => {
  const replica = new Subject();
  replica.load(1, items, [["1", "a"]]);
  const before = replica.position;
  assert.throws(() => replica.change(1, [inserted("2", "b"), inserted("no number", "c")]), { code: "replica_failed" });
  const load = replica.describe(2, items, [
    ["1", "a"],
    ["1", "twice"],
  ]);
  assert.throws(() => replica.join(load), { code: "query_failed" });
  assert.deepEqual(contents(), [[1, "a"]]);
  assert.equal(replica.position, before);
  assert.deepEqual(contents("SELECT position::text FROM walcast.position"), [[`0/${before.toString(16)}`]]);
  replica.change(1, [inserted("2", "b")]);
  assert.deepEqual(contents(), [
    [1, "a"],
    [2, "b"],
  ]);
});

test("nobody but a transaction writes, after one that was applied and one that was not", () => {
  const replica = new Subject();
  replica.load(1, items, [["1", "a"]]);
  const write = (): void => database.script("DELETE FROM items");
  replica.change(1, [inserted("2", "b")]);
  assert.throws(write, /read-only transaction/);
  assert.throws(() => replica.change(1, [inserted("no number", "c")]), { code: "replica_failed" });
  assert.throws(write, /read-only transaction/);
  assert.equal(contents().length, 2);
});

test("a table of the application's own in a given PGlite is left alone", () => {
  const replica = new Subject();
  database.transaction(() => database.script("CREATE TABLE own (id int); INSERT INTO own VALUES (7)"));
  assert.throws(() => replica.describe(1, table("own", ["id integer"]), []), { code: "config_invalid" });
  assert.deepEqual(contents("SELECT * FROM own"), [[7]]);
});

test("an enum gains labels in place, and is made anew where they changed otherwise", () => {
  const replica = new Subject();
  const withLabels = (...labels: string[]): TableDescription =>
    table("items", ["id integer", "mood public.mood"], ["id"], {
      version: labels.join(),
      types: [{ kind: "enum", schema: "public", name: "mood", labels }],
    });
  replica.load(1, withLabels("sad", "happy"), [["1", "sad"]]);
  replica.load(1, withLabels("down", "sad", "ok", "happy"), [
    ["1", "ok"],
    ["2", "down"],
  ]);
  assert.deepEqual(contents("SELECT id, mood FROM items ORDER BY mood"), [
    [2, "down"],
    [1, "ok"],
  ]);
  replica.load(1, withLabels("happy", "sad"), [
    ["1", "sad"],
    ["2", "happy"],
  ]);
  assert.deepEqual(contents("SELECT id FROM items ORDER BY mood"), [[2], [1]]);
});

test("a table whose enum was made anew for another one goes on in its own form", () => {
  const replica = new Subject();
  const withLabels = (name: string, ...labels: string[]): TableDescription =>
    table(name, ["id integer", "mood public.mood", "moods public.mood[]"], ["id", "mood"], {
      version: labels.join(),
      types: [{ kind: "enum", schema: "public", name: "mood", labels }],
    });
  replica.load(1, withLabels("items", "calm", "sad"), [["1", "calm", "{sad}"]]);
  const load = replica.describe(2, withLabels("items", "calm", "sad"), [["2", "sad", "{}"]]);
  replica.load(3, withLabels("others", "quiet", "sad"), [["1", "quiet", "{quiet}"]]);
  const many = Array.from({ length: 30 }, (_, i) => inserted(String(i + 10), "calm", "{calm,sad}"));
  replica.change(1, many);
  replica.join(load, many.concat(inserted("3", "calm", "{}")));
  replica.change(1, [{ kind: "truncate" }, inserted("1", "calm", "{}")]);
  replica.change(
    2,
    many.map((_, i) => ({ kind: "delete", key: [String(i + 10), "calm"] })),
  );
  assert.deepEqual(contents("SELECT id, mood FROM items ORDER BY id"), [
    [1, "calm"],
    [2, "sad"],
    [3, "calm"],
  ]);
  assert.deepEqual(contents("SELECT mood FROM others"), [["quiet"]]);
});

test("a type that is made anew takes along what is made of it", () => {
  const replica = new Subject();
  const withLabels = (...labels: string[]): TableDescription =>
    table("items", ["id integer", "a public.feeling", "b public.pair", "c public.moods", "d public.mood_set"], ["id"], {
      version: labels.join(),
      types: [
        { kind: "enum", schema: "public", name: "mood", labels },
        { kind: "domain", schema: "public", name: "feeling", base: "public.mood" },
        { kind: "composite", schema: "public", name: "pair", attributes: [{ name: "m", type: "public.feeling[]" }] },
        {
          kind: "range",
          schema: "public",
          name: "moods",
          subtype: "public.mood",
          multirange: { schema: "public", name: "mood_set" },
        },
      ],
    });
  for (const label of ["calm", "quiet", "calm"]) {
    replica.load(1, withLabels(label), [["1", label, `({${label}})`, `[${label},${label}]`, `{[${label},)}`]]);
    assert.deepEqual(contents("SELECT a::text, b::text, c::text, d::text FROM items"), [
      [label, `({${label}})`, `[${label},${label}]`, `{[${label},)}`],
    ]);
  }
});

test("names of every kind are names here, too", () => {
  const replica = new Subject();
  const name = { schema: 'My Schema"."Ta"ble', name: "x\\'y" };
  const odd = table(
    "",
    ["select integer", 'a"b text', "ID text", "id text", "__proto__ text", "constructor text", "größe😀 text"],
    ["__proto__", "select"],
    name,
  );
  const row = ["1", "a", "b", "c", "d", "e", "f"];
  replica.load(1, odd, [row]);
  replica.change(1, [
    { kind: "update", row: ["1", "A", "B", "C", "d", "E", "F"] },
    { kind: "update", oldKey: ["x", "9"], row: ["2", "", "", "", "y", "", ""] },
  ]);
  assert.deepEqual(
    contents(
      `SELECT * FROM "My Schema""."".""Ta""""ble"."x\\'y"`.replace(
        '"My Schema""."".""Ta""""ble"',
        '"My Schema"".""Ta""ble"',
      ),
    ),
    [
      [1, "A", "B", "C", "d", "E", "F"],
      [2, "", "", "", "y", "", ""],
    ],
  );
});

// One value each that is easily spoiled. The text must come out as it went in, loaded, one by one and set-based alike.
const typed: readonly (readonly [type: string, ...values: string[]])[] = [
  ["bigint", "9223372036854775807", "-9223372036854775808"],
  ["numeric", "NaN", "Infinity", "123456789012345678901234567890.000000000100"],
  ["numeric(12,2)", "3.50"],
  ["double precision", "-0", "1e-320", "NaN", "0.1"],
  ["real", "3.4028235e+38"],
  ["boolean", "t", "f"],
  ["text", "", "NULL", "null", "\\N", "tab\tnew\nline\\", "😀", '"quoted"', "{a,b}", "'"],
  ["character(5)", "ab   "],
  ["character varying(3)", "abc"],
  ['"char"', "x"],
  ["name", "n"],
  ["bytea", "\\x", "\\x00ff5c"],
  ["date", "0044-03-15 BC", "infinity", "5874897-12-31"],
  ["timestamp without time zone", "2026-01-01 00:00:00.123456", "294276-12-31 23:59:59.999999"],
  ["timestamp with time zone", "2026-01-01 00:00:00.1+00", "-infinity"],
  ["time without time zone", "24:00:00"],
  ["time with time zone", "12:00:00+05:30"],
  ["interval", "1 year 2 mons -3 days +04:05:06.7"],
  ["uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
  ["json", '{"a":  1, "a": 2}', "null"],
  ["jsonb", '{"a": 1}', "null", '"x"'],
  ["integer[]", "[-2:0]={1,2,3}", "{}", "{{1,2},{3,4}}", "{NULL}"],
  ["text[]", '{NULL,"NULL","a,b","\\"","\\\\",""}'],
  ["inet", "10.0.0.0/8"],
  ["cidr", "2001:db8::/32"],
  ["macaddr", "08:00:2b:01:02:03"],
  ["bit(3)", "101"],
  ["bit varying", "1"],
  ["point", "(1,-0.5)"],
  ["polygon", "((0,0),(1,1),(1,0))"],
  ["int4range", "[1,5)", "empty"],
  ["tstzmultirange", '{["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")}'],
  ["tsvector", "'a':1 'b':2"],
  ["tsquery", "'a' & 'b'"],
  ["xml", "<a/>"],
  ["money", "$1,234.50"],
  ["pg_lsn", "0/16B3748"],
  ["oid", "4294967295"],
  ["jsonpath", '$."a"'],
  ["public.mood", "sad"],
  ["public.mood[]", "{sad,NULL}"],
  ["public.positive", "5"],
  ["public.positive[]", "{5}"],
  ["public.pair", '(1,"a b")', "(,)"],
  ["public.pair[]", '{"(1,\\"a b\\")"}'],
  ["public.spans", "[1,2)"],
  ['public."Odd Type"', "anything"],
  ["public.citext", "AnyCase"],
  ["public.citext[]", "{AnyCase}"],
];

test("a value of every type keeps its text, loaded, one by one and set-based", () => {
  const columns = ["id integer", ...typed.map(([type], i) => `c${i} ${type}`)];
  const description = table("every_type", columns, ["id"], {
    types: [
      { kind: "enum", schema: "public", name: "mood", labels: ["sad", "it's \\ ok"] },
      { kind: "domain", schema: "public", name: "positive", base: "integer" },
      {
        kind: "composite",
        schema: "public",
        name: "pair",
        attributes: [
          { name: "n", type: "integer" },
          { name: "t x", type: "text" },
        ],
      },
      {
        kind: "range",
        schema: "public",
        name: "spans",
        subtype: "double precision",
        multirange: { schema: "public", name: "many_spans" },
      },
      { kind: "opaque", schema: "public", name: "citext" },
      { kind: "opaque", schema: "public", name: "Odd Type" },
    ],
  });
  const widest = Math.max(...typed.map((one) => one.length - 1));
  const rows = Array.from({ length: widest + 1 }, (_, n) => [
    String(n),
    ...typed.map(([, ...values]) => (n === widest ? null : values[n % values.length]!)),
  ]);
  const replica = new Subject();
  replica.load(1, description, rows);
  assert.deepEqual(texts(description), rows);
  replica.change(1, [{ kind: "truncate" }, ...rows.slice(0, 3).map((row): Operation => ({ kind: "insert", row }))]);
  assert.deepEqual(texts(description), rows.slice(0, 3));
  const many = Array.from({ length: 100 }, (_, n) => [String(n), ...rows[n % rows.length]!.slice(1)]);
  replica.change(1, [{ kind: "truncate" }, ...many.map((row): Operation => ({ kind: "insert", row }))]);
  assert.deepEqual(texts(description), many);
});

test("rows that come and go for ever do not make the replica grow for ever", () => {
  const replica = new Subject();
  replica.load(1, items, [], [], ["name"]);
  const sizes: number[] = [];
  const rounds = thorough(100, 40);
  for (let round = 0; round < rounds; round++) {
    const keys = Array.from({ length: 1000 }, (_, n) => String(1000 * round + n));
    replica.change(
      1,
      keys.map((key) => inserted(key, `the name of ${key}`)),
    );
    replica.change(
      1,
      keys.map((key): Operation => ({ kind: "delete", key: [key] })),
    );
    replica.tidy();
    sizes.push(Number(contents("SELECT pg_table_size('items')")[0]![0]));
  }
  const half = Math.max(...sizes.slice(0, rounds / 2));
  assert.ok(
    Math.max(...sizes.slice(rounds / 2)) <= half * 1.1,
    `${half} bytes in the first half, ${Math.max(...sizes)} later`,
  );
});

test("any sequence of transactions over overlapping shapes leaves what a plain model says", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.array(fc.array(step, { maxLength: 30 }), { maxLength: 12 }),
      fc.array(fc.nat(2), { maxLength: 3 }),
      replay,
    ),
    { numRuns: thorough(60, 20) },
  );
});

// ── The model: a table upstream, and shapes that are the rows whose number is in a range ─────────────────────────────

interface Step {
  readonly kind: "put" | "move" | "delete" | "truncate";
  readonly key: number;
  readonly to: number;
  readonly value: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 10, arbitrary: fc.constant("put" as const) },
    { weight: 4, arbitrary: fc.constant("move" as const) },
    { weight: 5, arbitrary: fc.constant("delete" as const) },
    { weight: 1, arbitrary: fc.constant("truncate" as const) },
  ),
  key: fc.nat(20),
  to: fc.nat(20),
  value: fc.nat(30),
});

// Overlapping on purpose: a value may be in none, one, two or three.
const ranges = [
  (value: number) => value < 20,
  (value: number) => value >= 10 && value < 25,
  (value: number) => value % 2 === 0,
];
const numbers = table("items", ["id integer", "value integer"]);

function replay(shapeCount: number, transactions: readonly (readonly Step[])[], reloads: readonly number[]): void {
  const replica = new Subject();
  const upstream = new Map<number, number>();
  const shapes = ranges.slice(0, shapeCount);
  shapes.forEach((_, i) => replica.load(i + 1, numbers, []));
  transactions.forEach((steps, n) => {
    const operations: Operation[][] = shapes.map(() => []);
    for (const one of steps) take(one, upstream, shapes, operations);
    replica.changeAll(operations);
    const again = reloads[n];
    if (again !== undefined && again < shapeCount) replica.load(again + 1, numbers, rowsOf(upstream, shapes[again]!));
    const expected = [...upstream]
      .filter(([, value]) => shapes.some((matches) => matches(value)))
      .sort(([a], [b]) => a - b);
    assert.deepEqual(contents(), expected);
  });
}

/** Does a step upstream, and says what it means to each shape. */
function take(
  { kind, key, to, value }: Step,
  upstream: Map<number, number>,
  shapes: typeof ranges,
  operations: Operation[][],
): void {
  if (kind === "truncate") {
    upstream.clear();
    for (const list of operations) list.push({ kind: "truncate" });
    return;
  }
  const old = upstream.get(key);
  const exists = old !== undefined;
  const target = kind === "move" ? to : key;
  const isImpossible = (kind !== "put" && !exists) || (kind === "move" && to !== key && upstream.has(to));
  if (isImpossible) return;
  upstream.delete(key);
  if (kind !== "delete") upstream.set(target, value);
  shapes.forEach((matches, i) => {
    const was = exists && matches(old);
    const is = kind !== "delete" && matches(value);
    const row = [String(target), String(value)];
    if (was && is) operations[i]!.push({ kind: "update", ...(target === key ? {} : { oldKey: [String(key)] }), row });
    else if (is) operations[i]!.push({ kind: "insert", row });
    else if (was) operations[i]!.push({ kind: "delete", key: [String(key)] });
  });
}

function rowsOf(upstream: Map<number, number>, matches: (value: number) => boolean): string[][] {
  return [...upstream].filter(([, value]) => matches(value)).map((row) => row.map(String));
}

// ── ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A Replica whose shapes go by number, fed as over the wire. */
class Subject {
  private readonly replica = emptied(database);
  private readonly members = new Map<number, Member>();
  private last = 0n;

  get position(): Lsn {
    return this.replica.position;
  }

  load(
    number: number,
    description: TableDescription,
    rows: readonly (readonly (string | null)[])[],
    later: readonly Operation[] = [],
    indexes: readonly string[] = [],
  ): void {
    this.join(this.describe(number, description, rows, indexes), later);
  }

  describe(
    number: number,
    description: TableDescription,
    rows: readonly (readonly (string | null)[])[],
    indexes: readonly string[] = [],
  ): Load {
    const load = this.replica.describe(this.member(number, indexes), description);
    if (rows.length > 0) this.replica.copy(load, [Buffer.from(rows.map(copyLine).join(""))]);
    return load;
  }

  join(load: Load, later: readonly Operation[] = []): void {
    this.replica.commit([], [{ load, portions: [transmitted(later)] }], this.next());
  }

  change(number: number, operations: readonly Operation[]): void {
    this.changeAll([operations], number);
  }

  /** The payload as it came. */
  receive(number: number, payloads: readonly Uint8Array[]): void {
    const operations = payloads.flatMap(operationsOf);
    const changes = [{ member: this.member(number), payloads, operations }];
    this.replica.commit([{ kind: "changes", changes }], [], this.next());
  }

  /** The i-th list is for shape i + first. */
  changeAll(operations: readonly (readonly Operation[])[], first = 1): void {
    const changes = operations.map((list, i) => {
      const payload = encodeCommits([commit(1n, ...list)]);
      return { member: this.member(i + first), payloads: [payload], operations: operationsOf(payload) };
    });
    this.replica.commit([{ kind: "changes", changes }], [], this.next());
  }

  remove(number: number): void {
    this.replica.remove(this.member(number));
  }

  tidy(): void {
    this.replica.tidy();
  }

  private member(number: number, indexes: readonly string[] = []): Member {
    const member = this.members.get(number) ?? {
      number,
      access: undefined,
      request: `shape ${number}`,
      isOver: false,
      indexes,
    };
    this.members.set(number, member);
    return member;
  }

  private next(): Lsn {
    return ++this.last as Lsn;
  }
}

function emptied(on: Database): Replica {
  on.script(forgetEverything);
  return new Replica(on);
}

function transmitted(operations: readonly Operation[]): Operation[] {
  return operationsOf(encodeCommits([commit(1n, ...operations)]));
}

function operationsOf(payload: Uint8Array): Operation[] {
  return decodeCommits(payload).flatMap(({ operations }) => operations);
}

function contents(sql = "SELECT * FROM items ORDER BY 1"): unknown[][] {
  return database.rows(sql).map((row) => Object.values(row));
}

function texts(description: TableDescription): (string | null)[][] {
  return database.texts(`SELECT * FROM ${description.name} ORDER BY id`).map((row) => Object.values(row));
}

function inserted(...row: Value[]): Operation {
  return { kind: "insert", row };
}

function moved(from: string, to: string, name: string): Operation {
  return { kind: "update", oldKey: [from], row: [to, name] };
}
