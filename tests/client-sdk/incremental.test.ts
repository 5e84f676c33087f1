/**
 * A live query that follows the changed rows shows what it would show if it ran again: over tables, queries and changes that
 * nobody thought of. Equal means: the same rows in the same order, save that rows which its ORDER BY does not tell apart may
 * stand, and at the end of a LIMIT be chosen, differently.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";

import { Changed } from "../../client-sdk/changed.ts";
import { Database } from "../../client-sdk/database.ts";
import { type LiveHooks, LiveQueries } from "../../client-sdk/live.ts";
import type { NetChange } from "../../client-sdk/reduce.ts";
import { zeroLsn } from "../../engine/protocol.ts";
import { thorough } from "../support/thorough.ts";
import { putRow } from "./live/put-row.ts";
import { valueFor, valuesByType } from "./live/values.ts";
import { type Question, Watched } from "./live/watched.ts";

const database = new Database();
const hooks: LiveHooks = { isLoading: () => false, failureOf: () => undefined, position: () => zeroLsn };
let queries: LiveQueries;

before(async () => {
  await database.open();
  await database.exclusive(() => {
    database.script("BEGIN READ WRITE; CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); COMMIT");
    database.readTypes();
  });
  queries = new LiveQueries(database, Promise.resolve(), hooks);
});

after(() => database.close());

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const types = Object.keys(valuesByType);
const keyTypes = ["int4", "int8", "text", "uuid", "date", "character(3)", "numeric", "mood", "float8"];

interface Table {
  /** Of k0, …, the primary key, and of v0, …. */
  readonly keyTypes: readonly string[];
  readonly valueTypes: readonly string[];
}

const tables: fc.Arbitrary<Table> = fc.record({
  keyTypes: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom("int4", "text").map((type) => [type]) },
    { weight: 2, arbitrary: fc.array(fc.constantFrom(...keyTypes), { minLength: 1, maxLength: 2 }) },
  ),
  valueTypes: fc.array(fc.constantFrom(...types), { minLength: 1, maxLength: 4 }),
});

// ── Queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function questionsOn({ keyTypes: keys, valueTypes }: Table): fc.Arbitrary<Question> {
  const keyColumns = keys.map((_, i) => `k${i}`);
  const columns = [...keyColumns, ...valueTypes.map((_, i) => `v${i}`)];
  const typeOf = new Map(columns.map((column, i) => [column, [...keys, ...valueTypes][i]!]));
  const column = fc.constantFrom(...columns);
  const condition = fc
    .tuple(column, fc.constantFrom("=", "<>", "<", ">=", "IS NULL", "IS NOT NULL"), fc.nat(20))
    .map(([name, operator, which]) => {
      const values = valuesByType[typeOf.get(name)!]!;
      const value = values[which % values.length]!.replaceAll("'", "''");
      return operator.startsWith("IS") ? `${name} ${operator}` : `${name} ${operator} '${value}'`;
    });
  const sorts = fc.uniqueArray(fc.tuple(column, fc.constantFrom("", "DESC", "NULLS FIRST", "DESC NULLS LAST")), {
    maxLength: 3,
    selector: ([name]) => name,
  });
  const limit = fc.option(fc.constantFrom(0, 1, 2, 3, 5), { nil: undefined });
  const plain = fc
    .record({
      selected: fc.constantFrom("*", columns.join(", "), [...columns].reverse().join(", "), "t.*, v0 IS NULL AS extra"),
      where: fc.option(fc.tuple(condition, fc.constantFrom("AND", "OR"), condition), { nil: undefined, freq: 3 }),
      sorts,
      limit,
      isParameter: fc.boolean(),
    })
    .map(({ selected, where, sorts: sorted, limit: rows, isParameter }) => {
      const order = sorted.map((words) => words.join(" ")).join(", ");
      const all = `SELECT ${selected} FROM TABLE t${where ? ` WHERE ${where.join(" ")}` : ""}${order && ` ORDER BY ${order}`}`;
      const cut = rows === undefined ? "" : ` LIMIT ${isParameter ? "$1" : rows} -- of them;`;
      const params = rows !== undefined && isParameter ? [rows] : [];
      return { sql: all + cut, all, params, sortedBy: sorted.map(([name]) => name) };
    });
  const others = fc.constantFrom(
    "SELECT count(*), min(k0::text) FROM TABLE",
    "SELECT v0, count(*) FROM TABLE GROUP BY v0",
    "SELECT DISTINCT v0 FROM TABLE",
    "SELECT k0, row_number() OVER (ORDER BY k0) FROM TABLE",
    "SELECT t.*, (SELECT count(*) FROM TABLE) FROM TABLE t",
    "SELECT * FROM TABLE t WHERE EXISTS (SELECT FROM TABLE u WHERE u.v0 < t.v0)",
    "SELECT t.* FROM TABLE t JOIN TABLE u ON u.v0 = t.v0",
    "SELECT t.*, generate_series(1, 2) AS n FROM TABLE t",
    "SELECT * FROM (SELECT * FROM TABLE ORDER BY k0 LIMIT 2) t",
    "SELECT * FROM TABLE UNION ALL SELECT * FROM TABLE",
    "WITH w AS (SELECT * FROM TABLE) SELECT * FROM w",
    "SELECT v0 FROM TABLE",
    "SELECT * FROM TABLE ORDER BY k0 OFFSET 1",
  );
  return fc.oneof(
    { weight: 8, arbitrary: plain },
    {
      weight: 1,
      arbitrary: others
        .filter((sql) => !/[<]|min|row_number|DISTINCT|GROUP|u\.v0/.test(sql) || valueTypes[0] !== "jsonb")
        .map((sql) => ({ sql, all: sql, params: [], sortedBy: [] })),
    },
  );
}

// ── Changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Numbers stand for values: of the key, then of the row; no row is a deletion. */
interface Step {
  readonly isWhole: boolean;
  readonly changes: readonly { readonly key: readonly number[]; readonly row: readonly number[] | undefined }[];
}

const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({
    isWhole: fc.nat(15).map((n) => n === 0),
    changes: fc.array(
      fc.record({
        key: fc.array(fc.nat(11), { minLength: 2, maxLength: 2 }),
        row: fc.option(fc.array(fc.nat(12), { minLength: 4, maxLength: 4 }), { freq: 4, nil: undefined }),
      }),
      { maxLength: 4 },
    ),
  }),
  { minLength: 2, maxLength: 8 },
);

function apply(name: string, { keyTypes: keys, valueTypes }: Table, { changes, isWhole }: Step): Changed {
  const net = new Map<string, NetChange>();
  database.transaction(() => {
    for (const { key, row } of changes) {
      const keyValues = keys.map((type, i) => valueFor(type, key[i]!)!);
      const values = row && valueTypes.map((type, i) => valueFor(type, row[i]!));
      for (const change of putRow(database, { name, keyTypes: keys, valueTypes }, keyValues, values))
        net.set(...change);
    }
  });
  const changed = new Changed();
  changed.addNet(name, { truncated: isWhole, changes: net });
  return changed;
}

// ── The property ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** What `inspect` says of a query. */
async function modeOf(sql: string, params: readonly unknown[] = []): Promise<string> {
  const live = queries.add(sql, params);
  await live.ready;
  const { mode, why } = queries.list()[0]!;
  live.close();
  return why === undefined ? mode : `${mode}: ${why}`;
}

test("docs/live-queries.md: each query on the page is kept current the way it says", async () => {
  const page = await readFile(join(import.meta.dirname, "..", "..", "docs", "live-queries.md"), "utf8");
  const [, schema] = /^```sql\n(.*?)^```$/ms.exec(page)!;
  await database.exclusive(() => database.script(`BEGIN READ WRITE; ${schema}; COMMIT`));
  const rows = [...page.matchAll(/^\| `(SELECT .*?)` \| (.*?) \|$/gm)];
  assert.equal(rows.length, 19);
  for (const [, sql, mode] of rows) assert.equal(await modeOf(sql!), mode, sql);
});

test("what is followed and what runs again, and why", async () => {
  await database.exclusive(() =>
    database.script(
      "BEGIN READ WRITE; CREATE TABLE kinds (id int PRIMARY KEY, name text, at timestamptz, feeling mood); CREATE VIEW seen AS SELECT * FROM kinds; COMMIT",
    ),
  );
  for (const [sql, expected, params] of [
    ["SELECT * FROM kinds", "incremental"],
    ["SELECT * FROM kinds;", "incremental"],
    ["SELECT lower(name) AS n, id FROM kinds AS k WHERE name LIKE 'a%' OR at > '2024-01-01' ORDER BY n", "incremental"],
    ["SELECT id FROM kinds LIMIT 3", "window"],
    ["SELECT * FROM kinds ORDER BY at DESC FETCH FIRST 3 ROWS ONLY", "window"],
    ["SELECT * FROM kinds ORDER BY at DESC LIMIT $1 -- LIMIT 2", "window", [3]],
    ["SELECT *, ' LIMIT 1' FROM kinds WHERE name <> $$ LIMIT 4$$ LIMIT NULL", "incremental"],
    ["SELECT date_trunc('day', at) AS day, id FROM kinds ORDER BY 1, 2", "incremental"],
    ["SELECT id FROM kinds WHERE at > $1", "incremental", ["2024-01-01"]],
    ["SELECT id FROM kinds WHERE at > $1", "re-run: a parameter is a moment that is another one each time", ["now"]],
    ["SELECT id FROM kinds WHERE at > now()", "re-run: it calls now, which may give something else each time"],
    [
      "SELECT id FROM kinds WHERE at > name::timestamptz",
      "re-run: it has a conversion that may depend on when it is made",
    ],
    ["SELECT id FROM kinds WHERE random() < 2", "re-run: it calls random, which may give something else each time"],
    [
      "SELECT id FROM kinds WHERE at > current_date",
      "re-run: it has an expression of a kind that is not known (SQLVALUEFUNCTION)",
    ],
    ["SELECT id FROM kinds ORDER BY name", "re-run: it is ordered by something that is not in its result"],
    [
      "SELECT id, to_jsonb(id) AS j FROM kinds ORDER BY j",
      "re-run: it is ordered by a type, or a collation, whose order is only Postgres' to tell",
    ],
    ["SELECT name FROM kinds", "re-run: its result does not have the table's primary key"],
    ["SELECT count(*) FROM kinds", "re-run: it has aggregates"],
    ["SELECT id FROM seen", "re-run: it does not read a table itself"],
    ["SELECT id, feeling FROM kinds ORDER BY feeling DESC NULLS LAST, id", "incremental"],
    ["SELECT (SELECT 1) AS one, id FROM kinds", "re-run: it has subqueries"],
    ["SELECT id, ctid FROM kinds", "re-run: it has a system column"],
    ["SELECT id FROM kinds LIMIT 1 + 1", "re-run: it has a LIMIT that is computed"],
  ] as const)
    assert.equal(await modeOf(sql, params), expected, sql);
});

test("a query that reads all of a large table at each change is told of, once, with the index", async (t) => {
  const warn = t.mock.method(console, "warn", () => {});
  const own = new LiveQueries(database, Promise.resolve(), hooks);
  await database.exclusive(() =>
    database.script(
      "BEGIN READ WRITE; CREATE TABLE large (id int PRIMARY KEY, who int, note text, at timestamptz); INSERT INTO large SELECT i, i % 9, '', now() FROM generate_series(1, 6000) i; COMMIT",
    ),
  );
  const ask = async (sql: string, params: readonly unknown[] = []): Promise<string | undefined> => {
    const before = warn.mock.callCount();
    const live = own.add(sql, params);
    await live.ready;
    live.close();
    const told = warn.mock.calls.slice(before).map(({ arguments: [text] }) => String(text));
    assert.ok(told.length <= 1);
    return told[0] && /indexes: \["(.*)"\]/.exec(told[0])?.[1];
  };
  assert.equal(await ask("SELECT * FROM large"), undefined);
  assert.equal(await ask("SELECT * FROM large WHERE id = 5"), undefined);
  assert.equal(await ask("SELECT count(*) FROM large WHERE note = $1 AND who = $2", ["x", 1]), "note, who");
  assert.equal(await ask("SELECT count(*) FROM large WHERE note = $1 AND who = $2", ["y", 1]), undefined);
  assert.equal(await ask("SELECT * FROM large l WHERE who = 3 ORDER BY at DESC LIMIT 5"), "who, at DESC");
  assert.equal(await ask("SELECT * FROM large WHERE at > $1", ["2024-01-01"]), "at");
});

test("with `coalesce`, what comes before the next frame is one callback", async (t) => {
  let draw = (): void => {};
  const frames = globalThis as { requestAnimationFrame?: unknown; cancelAnimationFrame?: unknown };
  frames.requestAnimationFrame = (work: () => void) => ((draw = work), 1);
  frames.cancelAnimationFrame = () => (draw = () => {});
  t.after(() => {
    delete frames.requestAnimationFrame;
    delete frames.cancelAnimationFrame;
  });
  const name = '"public"."framed"';
  const table = { keyTypes: ["int4"], valueTypes: ["text"] };
  await database.exclusive(() =>
    database.script(`BEGIN READ WRITE; CREATE TABLE ${name} (k0 int4 PRIMARY KEY, v0 text); COMMIT`),
  );
  const live = queries.add<{ k0: number; v0: string }>(`SELECT * FROM ${name} ORDER BY k0`, [], { coalesce: "frame" });
  await live.ready;
  const told: unknown[] = [];
  live.subscribe((rows, { inserted, updated, deleted }) =>
    told.push([rows.length, inserted, updated, deleted].map((one) => (Array.isArray(one) ? one.length : one))),
  );
  await Promise.resolve();
  const step = async (isWhole: boolean, key: number, row: readonly number[] | undefined): Promise<void> => {
    const changes = [{ key: [key], row }];
    const settle = await database.exclusive(() => queries.applied(apply(name, table, { isWhole, changes })));
    settle();
  };
  await step(false, 1, [1]);
  await step(false, 2, [1]);
  await step(false, 1, [2]);
  await step(false, 2, undefined);
  assert.deepEqual(told, [[0, 0, 0, 0]]);
  draw();
  assert.deepEqual(told.slice(1), [[1, 1, 0, 0]]);
  await step(false, 3, [1]);
  await step(true, 1, [3]);
  draw();
  assert.deepEqual(told.slice(2), [[2, 1, 1, 0]]);
  await step(false, 4, [1]);
  live.close();
  draw();
  assert.equal(told.length, 3);
});

test("queries that run again do so in one round trip, where each can", async (t) => {
  const name = '"public"."counted"';
  const table = { keyTypes: ["int4"], valueTypes: ["int4"] };
  await database.exclusive(() =>
    database.script(`BEGIN READ WRITE; CREATE TABLE ${name} (k0 int4 PRIMARY KEY, v0 int4); COMMIT`),
  );
  const counts = [-100, -10, -9].map((least) =>
    queries.add<{ n: number }>(`SELECT count(*)::int AS n FROM ${name} WHERE k0 > $1`, [least]),
  );
  const fragile = queries.add<{ n: number }>(`SELECT 1 / (4 - count(*))::int AS n FROM ${name}`, []);
  const all = [...counts, fragile];
  await Promise.all(all.map(({ ready }) => ready));
  const trips = t.mock.method(database.pglite, "execProtocolRawStream");
  /** How often PGlite was called after the change was written. */
  const put = async (key: number): Promise<number> => {
    const settle = await database.exclusive(() => {
      const changed = apply(name, table, { isWhole: false, changes: [{ key: [key], row: [0] }] });
      trips.mock.resetCalls();
      return queries.applied(changed);
    });
    settle();
    return trips.mock.callCount();
  };
  await put(0);
  // Whether an index would help is asked at the first two runs, but not at the third.
  assert.equal(await put(1), 1);
  assert.deepEqual(
    all.map(({ rows: [row] }) => row!.n),
    [2, 1, 0, 0],
  );
  await put(2);
  await put(3);
  assert.equal(fragile.error?.message.includes("division by zero"), true);
  assert.deepEqual(
    counts.map(({ rows: [row] }) => row!.n),
    [4, 3, 2],
  );
  await put(4);
  assert.equal(fragile.status, "ready");
  assert.deepEqual(
    all.map(({ rows: [row] }) => row!.n),
    [5, 4, 3, -1],
  );
  for (const live of all) live.close();
});

test("the row of one key is looked up in one round trip, by a plan that Postgres keeps", async (t) => {
  const tables = [1, 2].map((n) => `"public"."kept_${n}"`);
  const table = { keyTypes: ["int4"], valueTypes: ["int4"] };
  await database.exclusive(() => {
    for (const name of tables)
      database.script(
        `BEGIN READ WRITE; CREATE TABLE ${name} (k0 int4 PRIMARY KEY, v0 int4);
        INSERT INTO ${name} SELECT i, i FROM generate_series(1, 500) i; COMMIT`,
      );
  });
  const [orders, customers] = tables;
  const all = [
    queries.add(`SELECT * FROM ${orders} ORDER BY v0 DESC LIMIT 10`, []),
    queries.add(`SELECT * FROM ${orders} WHERE v0 > $1 ORDER BY v0, k0`, [100]),
    queries.add(
      `SELECT o.*, c.v0 AS name FROM ${orders} o LEFT JOIN ${customers} c ON c.k0 = o.v0 WHERE o.v0 < $1`,
      [90],
    ),
  ];
  await Promise.all(all.map(({ ready }) => ready));
  const trips = t.mock.method(database.pglite, "execProtocolRawStream");
  for (let run = 0; run < 8; run++) {
    const settle = await database.exclusive(() => {
      const changed = apply(orders!, table, { isWhole: false, changes: [{ key: [run], row: [run] }] });
      trips.mock.resetCalls();
      return queries.applied(changed);
    });
    settle();
    assert.equal(trips.mock.callCount(), 1);
  }
  const plans = database.rows(
    "SELECT generic_plans::int AS kept, custom_plans::int AS own FROM pg_prepared_statements WHERE statement LIKE '%kept_1%AS walcast%= $%' AND custom_plans > 0",
  );
  assert.deepEqual(
    plans,
    Array.from({ length: 3 }, () => ({ kept: 3, own: 5 })),
  );
  for (const live of all) live.close();
});

let count = 0;
const modes = new Map<string, number>();

test("what is merged is what running again would give", async () => {
  const cases = tables.chain((table) =>
    fc.tuple(fc.constant(table), fc.array(questionsOn(table), { minLength: 3, maxLength: 6 }), steps),
  );
  await fc.assert(
    fc.asyncProperty(cases, async ([table, questions, all]) => {
      const name = `"public"."t${++count}"`;
      const columns = [
        ...table.keyTypes.map((type, i) => `k${i} ${type}`),
        ...table.valueTypes.map((type, i) => `v${i} ${type}`),
      ];
      const key = table.keyTypes.map((_, i) => `k${i}`).join(", ");
      await database.exclusive(() =>
        database.script(`BEGIN READ WRITE; CREATE TABLE ${name} (${columns.join(", ")}, PRIMARY KEY (${key})); COMMIT`),
      );
      const watched = questions.map(
        ({ sql, all: uncut, ...question }) =>
          new Watched(database, queries, {
            ...question,
            sql: sql.replaceAll("TABLE", name),
            all: uncut.replaceAll("TABLE", name),
          }),
      );
      try {
        for (const one of watched) await one.isReady();
        for (const step of all) {
          const settle = await database.exclusive(() => queries.applied(apply(name, table, step)));
          settle();
          await database.exclusive(() => watched.forEach((one) => one.check()));
        }
        for (const { mode } of queries.list()) modes.set(mode, (modes.get(mode) ?? 0) + 1);
      } finally {
        for (const { live } of watched) live.close();
        await database.exclusive(() => database.script(`BEGIN READ WRITE; DROP TABLE ${name}; COMMIT`));
      }
    }),
    { numRuns: thorough(250, 60) },
  );
  for (const mode of ["incremental", "window", "re-run"])
    assert.ok((modes.get(mode) ?? 0) > thorough(30, 10), `${mode} was tried`);
});
