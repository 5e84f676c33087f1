/** Shapes of partitioned tables, held against what a real Postgres streams under its leaves. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { decodeCommits, type Operation } from "../../engine/protocol.ts";
import { Registry } from "../../engine/shapes/registry.ts";
import { resolveShape, type Shape } from "../../engine/shapes/shape.ts";
import { loadParser } from "../../engine/shapes/where.ts";
import { type Capture, capture } from "./captured.ts";

// The second leaf has the same columns in another order, and a gap; the third is one of a root within the root.
const schema = `
  create table root (id int, k int, v text, primary key (id, k)) partition by range (k);
  create table first partition of root for values from (0) to (10);
  create table second (v text, gone int, k int not null, id int not null, primary key (id, k));
  alter table second drop column gone;
  alter table root attach partition second for values from (10) to (20);
  create table inner_root partition of root for values from (20) to (40) partition by range (k);
  create table third partition of inner_root for values from (20) to (30);
  create table keyed (id int primary key, v text) partition by range (id);
  create table keyed_leaf partition of keyed default;
  create table other (id int primary key);
  alter table first replica identity full; alter table second replica identity full; alter table third replica identity full`;

describe("a partitioned table's shape", () => {
  let postgres: Capture;
  before(async () => {
    await loadParser();
    postgres = await capture(schema);
  });
  after(() => postgres.close());

  async function shapeOf(table: string, where?: string): Promise<Shape> {
    return resolveShape(
      { table, ...(where === undefined ? {} : { where }) },
      await postgres.table(table),
      true,
      undefined,
      false,
    );
  }

  function route(shape: Shape, transaction: Transaction): { operations: readonly Operation[]; broken: boolean } {
    const registry = new Registry<string>(1e6);
    registry.add(shape, "anybody");
    const { changed, broken } = registry.route([transaction]);
    registry.delete(shape, "anybody");
    assert.deepEqual(
      registry.route([transaction]),
      { changed: [], broken: [], failed: [] },
      "nobody is left in the registry",
    );
    const operations = changed.flatMap(({ payloads }) => payloads.flatMap(({ bytes }) => decodeCommits(bytes)));
    return { operations: operations.flatMap((commit) => commit.operations), broken: broken.length > 0 };
  }

  const rows = "truncate root; insert into root values (1, 1, 'a'), (2, 11, 'b'), (3, 21, 'c')";

  test("gets its leaves' changes with the columns in its own order, whatever theirs is", async () => {
    await postgres.db.query(rows);
    const transaction = await postgres.transaction(
      "update root set v = v || '!' where id < 4",
      "delete from second",
      "insert into root values (4, 12, null)",
    );
    assert.deepEqual(route(await shapeOf("root"), transaction).operations, [
      { kind: "update", row: ["1", "1", "a!"] },
      { kind: "update", row: ["2", "11", "b!"] },
      { kind: "update", row: ["3", "21", "c!"] },
      { kind: "delete", key: ["2", "11"] },
      { kind: "insert", row: ["4", "12", null] },
    ]);
    assert.deepEqual(route(await shapeOf("root", "v = 'b!' and k > 10"), transaction).operations, [
      { kind: "insert", row: ["2", "11", "b!"] },
      { kind: "delete", key: ["2", "11"] },
    ]);
    assert.deepEqual(route(await shapeOf("inner_root"), transaction).operations, [
      { kind: "update", row: ["3", "21", "c!"] },
    ]);
    assert.deepEqual(route(await shapeOf("second"), transaction).operations, [
      { kind: "update", row: ["b!", "11", "2"] },
      { kind: "delete", key: ["2", "11"] },
      { kind: "insert", row: [null, "12", "4"] },
    ]);
    assert.deepEqual(route(await shapeOf("other"), transaction), { operations: [], broken: false });
  });

  test("sees a row that moves from one leaf to another leave and enter", async () => {
    await postgres.db.query(rows);
    const transaction = await postgres.transaction("update root set k = 12, v = 'moved' where id = 1");
    assert.deepEqual(route(await shapeOf("root"), transaction).operations, [
      { kind: "delete", key: ["1", "1"] },
      { kind: "insert", row: ["1", "12", "moved"] },
    ]);
  });

  test("is emptied by TRUNCATE of the root, and loaded anew after TRUNCATE of one leaf", async () => {
    await postgres.db.query(rows);
    const root = await shapeOf("root");
    const whole = await postgres.transaction("truncate root, other", "insert into root values (5, 5, 'e')");
    assert.deepEqual(route(root, whole), {
      operations: [{ kind: "truncate" }, { kind: "insert", row: ["5", "5", "e"] }],
      broken: false,
    });
    const part = await postgres.transaction("truncate second");
    assert.equal(route(root, part).broken, true);
    assert.deepEqual(route(await shapeOf("second"), part), { operations: [{ kind: "truncate" }], broken: false });
    const inner = await postgres.transaction("truncate inner_root");
    assert.equal(route(root, inner).broken, true);
    assert.deepEqual(route(await shapeOf("inner_root"), inner), { operations: [{ kind: "truncate" }], broken: false });
  });

  test("is loaded anew when a partition comes, goes or changes, and nobody else is", async () => {
    // As a served table is marked. Of a partition that was dropped nobody can tell any more whose it was.
    await postgres.db.query("insert into walcast.ready_tables (slot_name, table_oid) values ('any', 'root'::regclass)");
    const statements = [
      ["create table fourth partition of root for values from (40) to (50)"],
      ["alter table root detach partition fourth"],
      [
        "insert into fourth values (9, 41, 'old')",
        "alter table root attach partition fourth for values from (40) to (50)",
      ],
      ["drop table fourth"],
      ["alter table first replica identity default"],
      ["alter table first replica identity full"],
      ["alter table root add column x int"],
    ] as const;
    for (const statement of statements) {
      const shapes = [await shapeOf("root", "id > 0 and k > 0"), await shapeOf("other")];
      const transaction = await postgres.transaction(...statement);
      assert.deepEqual(
        shapes.map((shape) => route(shape, transaction).broken),
        [true, false],
        statement.join("; "),
      );
    }
  });

  test("carries in old rows what all of its leaves do: without FULL on each, only predicates over the key are served", async () => {
    const update = await postgres.transaction(
      "insert into keyed values (1, 'a')",
      "update keyed set v = 'b'",
      "update keyed set id = 2",
    );
    assert.deepEqual(route(await shapeOf("keyed", "id < 10"), update).operations, [
      { kind: "insert", row: ["1", "a"] },
      { kind: "update", row: ["1", "b"] },
      { kind: "update", oldKey: ["1"], row: ["2", "b"] },
    ]);
    await assert.rejects(shapeOf("keyed", "v = 'b'"), { code: "replica_identity_missing" });
  });
});
