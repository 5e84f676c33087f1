/** Routing, held against transactions as Postgres streams them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { decodeCommits, type Operation } from "../../engine/protocol.ts";
import { Registry, type Routed } from "../../engine/shapes/registry.ts";
import { resolveShape, type Shape } from "../../engine/shapes/shape.ts";
import { loadParser } from "../../engine/shapes/where.ts";
import { type Capture, capture } from "./captured.ts";

const schema = `
  create table orders (id int primary key, status text, amount numeric(10,2), note text);
  alter table orders replica identity full;
  alter table orders alter note set storage external;
  create table by_key (id int primary key, status text, note text);
  alter table by_key alter note set storage external;
  create table long_key (code text primary key, n int);
  alter table long_key alter code set storage external;
  create table composite (a int, b text, v text, primary key (b, a));
  alter table composite replica identity full;
  create table parents (id int primary key);
  create table children (id int primary key references parents);
  alter table parents replica identity full;
  alter table children replica identity full`;

const large = "repeat('x', 5000)";

describe("the registry", () => {
  let postgres: Capture;
  before(async () => {
    await loadParser();
    postgres = await capture(schema);
  });
  after(() => postgres.close());

  async function shapeOf(
    table: string,
    where?: string,
    options: { columns?: string[]; changes?: boolean } = {},
  ): Promise<Shape> {
    const { columns, changes = false } = options;
    return resolveShape(
      { table, ...(where === undefined ? {} : { where }), ...(columns ? { columns } : {}) },
      await postgres.table(table),
      true,
      undefined,
      changes,
    );
  }

  /** What one shape sees of a transaction that runs after `given`. */
  async function seen(shape: Shape, given: string, ...statements: string[]): Promise<readonly Operation[]> {
    await postgres.db.query(given);
    return operations(shape, await postgres.transaction(...statements));
  }

  const orders = "truncate orders; insert into orders values (1, 'new', 10, null), (2, 'paid', 20, null)";

  test("a row that comes to match enters, one that goes on matching stays, one that does not any more leaves", async () => {
    const shape = await shapeOf("orders", "status = 'new'");
    assert.deepEqual(
      await seen(
        shape,
        orders,
        "update orders set status = 'new' where id = 2",
        "update orders set amount = 11 where id = 1",
        "update orders set status = 'paid' where id = 1",
      ),
      [
        { kind: "insert", row: ["2", "new", "20.00", null] },
        { kind: "update", row: ["1", "new", "11.00", null] },
        { kind: "delete", key: ["1"] },
      ],
    );
  });

  test("a row that never matches is never mentioned", async () => {
    const shape = await shapeOf("orders", "status = 'new'");
    assert.deepEqual(
      await seen(
        shape,
        orders,
        "update orders set amount = 1 where id = 2",
        "insert into orders values (3, 'paid', 1, null)",
        "delete from orders where id = 3",
        "update orders set status = null where id = 2",
      ),
      [],
    );
  });

  test("a row that leaves and enters again within a transaction does both, in order", async () => {
    const shape = await shapeOf("orders", "status = 'new'");
    assert.deepEqual(
      await seen(
        shape,
        orders,
        "update orders set status = 'x' where id = 1",
        "update orders set status = 'new' where id = 1",
        "delete from orders where id = 1",
        "insert into orders values (1, 'new', 1, null)",
      ),
      [
        { kind: "delete", key: ["1"] },
        { kind: "insert", row: ["1", "new", "10.00", null] },
        { kind: "delete", key: ["1"] },
        { kind: "insert", row: ["1", "new", "1.00", null] },
      ],
    );
  });

  test("a changed key tells the old one, also where the row leaves or enters with it", async () => {
    const shape = await shapeOf("orders", "id < 100");
    assert.deepEqual(
      await seen(
        shape,
        orders,
        "update orders set id = 5 where id = 1",
        "update orders set id = 500 where id = 5",
        "update orders set id = 50 where id = 500",
      ),
      [
        { kind: "update", oldKey: ["1"], row: ["5", "new", "10.00", null] },
        { kind: "delete", key: ["5"] },
        { kind: "insert", row: ["50", "new", "10.00", null] },
      ],
    );
  });

  test("a composite key comes in the key's order, and keys that look alike when joined are two", async () => {
    const shape = await shapeOf("composite");
    assert.deepEqual(
      await seen(
        shape,
        "truncate composite; insert into composite values (1, 'b/1', 'v'), (11, 'b/', 'w')",
        "delete from composite where a = 11",
        "update composite set b = 'c' where a = 1",
      ),
      [
        { kind: "delete", key: ["b/", "11"] },
        { kind: "update", oldKey: ["b/1", "1"], row: ["1", "c", "v"] },
      ],
    );
  });

  test("TRUNCATE empties the shapes of every table it names, cascades included, between inserts", async () => {
    const parents = await shapeOf("parents");
    const children = await shapeOf("children");
    await postgres.db.query("insert into parents values (1), (2); insert into children values (1)");
    const transaction = await postgres.transaction(
      "insert into parents values (3)",
      "truncate parents cascade",
      "insert into parents values (4)",
    );
    assert.deepEqual(operations(parents, transaction), [
      { kind: "insert", row: ["3"] },
      { kind: "truncate" },
      { kind: "insert", row: ["4"] },
    ]);
    assert.deepEqual(operations(children, transaction), [{ kind: "truncate" }]);
  });

  test("a large value that an update left alone comes from the old row under FULL", async () => {
    const shape = await shapeOf("orders");
    const row = ["1", "x", "10.00", "x".repeat(5000)];
    assert.deepEqual(
      await seen(
        shape,
        `truncate orders; insert into orders values (1, 'new', 10, ${large})`,
        "update orders set status = 'x'",
      ),
      [{ kind: "update", row }],
    );
    const entering = await shapeOf("orders", "status = 'y'");
    assert.deepEqual(await seen(entering, "select 1", "update orders set status = 'y'"), [
      { kind: "insert", row: ["1", "y", ...row.slice(2)] },
    ]);
    const reading = await shapeOf("orders", `note = '${"x".repeat(5000)}'`);
    assert.deepEqual(await seen(reading, "select 1", "update orders set id = 2"), [
      { kind: "update", oldKey: ["1"], row: ["2", "y", ...row.slice(2)] },
    ]);
  });

  test("a large value that an update left alone is told to be unchanged without FULL", async () => {
    const shape = await shapeOf("by_key", "id > 0");
    assert.deepEqual(
      await seen(
        shape,
        `truncate by_key; insert into by_key values (1, 'new', ${large})`,
        "update by_key set status = 'x'",
        "update by_key set id = 2",
        "update by_key set note = null",
      ),
      [
        { kind: "update", row: ["1", "x", undefined] },
        { kind: "update", oldKey: ["1"], row: ["2", "x", undefined] },
        { kind: "update", row: ["2", "x", null] },
      ],
    );
  });

  test("a key so large that it is stored out of line is never told to be unchanged", async () => {
    const key = "k".repeat(2300);
    const all = await shapeOf("long_key");
    assert.deepEqual(
      await seen(all, `truncate long_key; insert into long_key values ('${key}', 1)`, "update long_key set n = 2"),
      [{ kind: "update", row: [key, "2"] }],
    );
    const one = await shapeOf("long_key", `code = '${key}'`);
    assert.deepEqual(await seen(one, "select 1", "update long_key set n = 3"), [{ kind: "update", row: [key, "3"] }]);
  });

  test("columns that were not asked for are not sent, and a change of only these changes the rest to what it was", async () => {
    const shape = await shapeOf("orders", "amount > 5", { columns: ["status", "id"] });
    assert.deepEqual(
      await seen(
        shape,
        orders,
        "update orders set note = 'secret' where id = 1",
        "update orders set amount = 1 where id = 1",
      ),
      [
        { kind: "update", row: ["1", "new"] },
        { kind: "delete", key: ["1"] },
      ],
    );
  });

  test("in changes mode the old row comes whole, and only the columns asked for", async () => {
    const shape = await shapeOf("orders", "amount > 5", { columns: ["id", "status"], changes: true });
    assert.deepEqual(
      await seen(
        shape,
        orders,
        "update orders set status = 'x', id = 9 where id = 1",
        "update orders set amount = 1 where id = 9",
        "delete from orders where id = 2",
      ),
      [
        { kind: "update", old: ["1", "new"], row: ["9", "x"] },
        { kind: "delete", old: ["9", "x"] },
        { kind: "delete", old: ["2", "paid"] },
      ],
    );
  });

  test("equal shapes share one entry and one payload", async () => {
    const registry = new Registry<string>(1 << 20);
    registry.add(await shapeOf("orders", "status = 'new' and amount > 1"), "a");
    registry.add(await shapeOf("orders", "amount > 1.00 AND 'new' = status"), "b");
    registry.add(await shapeOf("orders", "status = 'paid'"), "c");
    assert.equal(registry.size, 2);
    const { changed } = registry.route([
      await postgres.transaction("insert into orders values (77, 'new', 2, null)", "delete from orders where id = 77"),
    ]);
    assert.deepEqual(
      changed.map(({ entry, payloads }) => [[...entry.subscribers], payloads.length]),
      [[["a", "b"], 1]],
    );
  });

  test("who was taken out hears nothing, and the last one takes the table with it", async () => {
    const registry = new Registry<string>(1 << 20);
    const shape = await shapeOf("orders", "status = 'new'");
    registry.add(shape, "a");
    registry.add(shape, "b");
    registry.delete(shape, "a");
    const transaction = await postgres.transaction(
      "insert into orders values (88, 'new', 2, null)",
      "delete from orders where id = 88",
    );
    assert.deepEqual([...registry.route([transaction]).changed[0]!.entry.subscribers], ["b"]);
    registry.delete(shape, "b");
    assert.deepEqual(
      [registry.size, registry.versions().size, registry.route([transaction]).changed.length],
      [0, 0, 0],
    );
  });

  test("shapes that come and go between transactions get their own columns, and what is theirs alone", async () => {
    const registry = new Registry<string>(1 << 20);
    const transaction = await postgres.transaction("insert into orders values (91, 'new', 2, 'a note')");
    const told = (): Record<string, unknown> =>
      Object.fromEntries(
        registry.route([transaction]).changed.map(({ entry, payloads }) => {
          const commits = payloads.flatMap(({ bytes }) => decodeCommits(bytes));
          return [[...entry.subscribers].join(), commits.flatMap((commit) => commit.operations)];
        }),
      );
    const status = await shapeOf("orders", undefined, { columns: ["id", "status"] });
    const cheap = { table: "orders", where: "amount < 3", columns: ["id", "status"] };
    const same = resolveShape(cheap, status.table, true, undefined, false);
    const [amount, note, other] = [
      await shapeOf("orders", "id = 91", { columns: ["id", "amount"] }),
      await shapeOf("orders", "status = 'new'", { columns: ["id", "note"] }),
      await shapeOf("orders", "status = 'paid'"),
    ];
    const row = (...values: string[]): unknown => [{ kind: "insert", row: values }];
    registry.add(status, "status");
    registry.add(same, "same");
    registry.add(amount, "amount");
    assert.deepEqual(told(), { status: row("91", "new"), same: row("91", "new"), amount: row("91", "2.00") });
    registry.delete(status, "status");
    registry.add(note, "note");
    assert.deepEqual(told(), { note: row("91", "a note"), same: row("91", "new"), amount: row("91", "2.00") });
    registry.delete(amount, "amount");
    registry.add(other, "other");
    registry.add(status, "status");
    assert.deepEqual(told(), { note: row("91", "a note"), same: row("91", "new"), status: row("91", "new") });
  });

  test("several transactions come in one payload, in commit order, each with its position, time and xid", async () => {
    const registry = new Registry<string>(1 << 20);
    registry.add(await shapeOf("orders"), "a");
    const transactions = [
      await postgres.transaction("insert into orders values (101, 'a', 1, null)"),
      await postgres.transaction("delete from orders where id = 101"),
    ];
    const { payloads } = registry.route(transactions).changed[0]!;
    const commits = decodeCommits(payloads[0]!.bytes);
    assert.deepEqual(
      commits.map(({ position, commitTime, xid }) => [position, commitTime, xid]),
      transactions.map(({ commitEnd, commitTime, xid }) => [commitEnd, commitTime, xid]),
    );
  });

  test("changes of several tables that are routed together give each shape what they give it one by one", async () => {
    const note = `lpad('', 5000, 'x')`;
    const part = (from: number): string[] => [
      `insert into orders select g, 'new', g, case when g % 3 = 0 then ${note} end from generate_series(${from}, ${from + 39}) g`,
      `insert into by_key select g, 'new', ${note} from generate_series(${from}, ${from + 9}) g`,
      `update orders set status = 'paid', amount = amount + 1 where id % 2 = 0 and id between ${from} and ${from + 19}`,
      `update orders set id = id + 100 where id between ${from + 30} and ${from + 39}`,
      `with changed as (update by_key set status = 'paid' where id = ${from} returning id)
         update orders set status = 'paid' from changed where orders.id = changed.id + 1`,
      `delete from orders where id between ${from} and ${from + 24} and id % 5 = 0`,
      `delete from by_key where id > ${from + 5}`,
    ];
    const transactions = [
      await postgres.transaction("truncate orders, by_key", ...part(1)),
      await postgres.transaction(...part(1001), "truncate by_key", ...part(3001)),
    ];
    await postgres.db.query("truncate orders, by_key");
    const shapes = await Promise.all([
      shapeOf("orders"),
      shapeOf("orders", "status = 'new'"),
      shapeOf("orders", "status IN ('paid', 'lost')", { columns: ["id", "status"] }),
      shapeOf("orders", "id % 3 = 0 AND amount > 5", { changes: true }),
      shapeOf("orders", "note IS NOT NULL"),
      shapeOf("by_key"),
      shapeOf("by_key", "id < 2000"),
    ]);
    const registry = new Registry<number>(1 << 20);
    for (const [number, shape] of shapes.entries()) registry.add(shape, number);
    const told = new Map<number, Operation[]>();
    for (const transaction of transactions) {
      assert.ok(transaction.starts.length > 80);
      for (let i = 0; i + 1 < transaction.starts.length; i++)
        addTo(told, registry.routePart(transaction, { ...transaction, starts: transaction.starts.slice(i, i + 2) }));
    }
    assert.equal(told.size, shapes.length);
    assert.deepEqual(addTo(new Map(), registry.route(transactions)), told);
  });

  test("a transaction that changes the table breaks its shapes and shows nothing of itself", async () => {
    await postgres.db.query("create table evolving (id int primary key); alter table evolving replica identity full");
    const registry = new Registry<string>(1 << 20);
    const shape = await shapeOf("evolving");
    registry.add(shape, "a");
    registry.add(await shapeOf("orders"), "b");
    const transaction = await postgres.transaction(
      "insert into evolving values (1)",
      "alter table evolving add column v int",
      "insert into evolving values (2, 2)",
      "delete from orders where id = 0",
    );
    const { changed, broken } = registry.route([transaction]);
    assert.deepEqual([changed.length, broken.map((entry) => entry.shape.key)], [0, [shape.key]]);
  });

  for (const [what, bytesMax, payloads] of [
    ["as large as the limit", 0, 1],
    ["one byte smaller than the limit", 1, 1],
    ["one byte larger than the limit", -1, 2],
  ] as const) {
    test(`a payload that is ${what} before its last operation is sent in ${payloads}, with nothing lost at the cut`, async () => {
      const shape = await shapeOf("orders");
      const transaction = await postgres.transaction(
        "insert into orders select g, 'cut', g, null from generate_series(1001, 1010) g",
        "delete from orders where id > 1000",
      );
      const whole = route(shape, transaction, 1 << 20);
      assert.equal(whole.length, 1);
      const lastOperation = 1 + 1 + 2 + 5 + 4; // 'D', old, columns, text and length, "1010"
      const cut = route(shape, transaction, whole[0]!.length - lastOperation + bytesMax);
      assert.equal(cut.length, payloads);
      const commits = cut.flatMap((bytes) => decodeCommits(bytes));
      assert.deepEqual(
        commits.flatMap((commit) => commit.operations),
        decodeCommits(whole[0]!)[0]!.operations,
      );
      assert.deepEqual([...new Set(commits.map((commit) => commit.position))], [transaction.commitEnd]);
    });
  }
});

function route(shape: Shape, transaction: Transaction, payloadBytesMax: number): Uint8Array[] {
  const registry = new Registry<string>(payloadBytesMax);
  registry.add(shape, "one");
  return registry.route([transaction]).changed.flatMap(({ payloads }) => payloads.map(({ bytes }) => bytes));
}

/** What each subscriber is told, behind what it was told before. */
function addTo(told: Map<number, Operation[]>, { changed, broken }: Routed<number>): Map<number, Operation[]> {
  assert.equal(broken.length, 0);
  for (const { entry, payloads } of changed)
    for (const number of entry.subscribers) {
      const operations = payloads.flatMap(({ bytes }) => decodeCommits(bytes).flatMap((commit) => commit.operations));
      told.set(number, [...(told.get(number) ?? []), ...operations]);
    }
  return told;
}

function operations(shape: Shape, transaction: Transaction): readonly Operation[] {
  return route(shape, transaction, 1 << 20).flatMap((bytes) =>
    decodeCommits(bytes).flatMap((commit) => commit.operations),
  );
}
