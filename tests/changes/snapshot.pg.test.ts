/**
 * Where the first rows end and the stream begins: whatever was under way while the snapshot was taken is in the one or in
 * the other, exactly once. Commits that are streamed before they are visible are in tests/splice.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { rowsOf } from "../sockets/raw-client.ts";
import { type Running, running } from "../sockets/running.ts";

describe("a snapshot", () => {
  let server: Running;
  before(async () => (server = await running()));
  after(() => server.close());

  async function tableOf(name: string): Promise<void> {
    await server.db.query(
      `create table ${name} (id int primary key, v text); insert into ${name} values (1, 'a'), (2, 'b')`,
    );
    // In the publication, so that the next who asks need not wait for those who write meanwhile.
    const client = await server.greeted();
    await client.load(1, { table: name, where: "id = 0" });
    await client.close();
  }

  async function writer(...statements: string[]): Promise<{ commit: () => Promise<void> }> {
    const client = await server.db.pool.connect();
    for (const statement of ["begin", ...statements]) await client.query(statement);
    return {
      commit: async () => {
        await client.query("commit");
        client.release();
      },
    };
  }

  async function lockIsWaitedFor(): Promise<void> {
    for (;;) {
      const { rows } = await server.db.query(
        "select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())",
      );
      if (rows.length > 0) return;
    }
  }

  test("does not see a transaction that is open across it, and the stream brings it, once", async () => {
    await tableOf("crossed");
    const open = await writer(
      "insert into crossed values (3, 'c')",
      "update crossed set v = 'x' where id = 1",
      "delete from crossed where id = 2",
    );
    const client = await server.greeted();
    const { lines, commits } = await client.load(1, { table: "crossed" });
    assert.deepEqual(rowsOf(lines), [
      ["1", "a"],
      ["2", "b"],
    ]);
    assert.deepEqual(commits, []);
    await open.commit();
    assert.deepEqual((await client.commit(1)).operations, [
      { kind: "insert", row: ["3", "c"] },
      { kind: "update", row: ["1", "x"] },
      { kind: "delete", key: ["2"] },
    ]);
    await client.close();
  });

  test("sees what committed before it, and the stream does not bring that again", async () => {
    await tableOf("settled");
    const client = await server.greeted();
    for (let id = 3; id < 40; id++) {
      await server.transaction(`insert into settled values (${id}, 'c')`);
      const { lines, commits } = await client.load(id, { table: "settled", where: `id <= ${id}` });
      const inserted = commits.flatMap(({ operations }) => operations);
      assert.equal(lines.length + inserted.length, id, JSON.stringify(inserted));
      assert.equal(
        new Set([
          ...rowsOf(lines).map(([key]) => key),
          ...inserted.map((one) => (one.kind === "insert" ? one.row[0] : "none")),
        ]).size,
        id,
      );
    }
    await client.close();
  });

  test("waits for a TRUNCATE in flight, and begins after it", async () => {
    await tableOf("emptied");
    const open = await writer("truncate emptied", "insert into emptied values (9, 'z')");
    const client = await server.greeted();
    client.subscribe(1, { table: "emptied" });
    await lockIsWaitedFor();
    await open.commit();
    const { lines, commits } = await client.joined(1);
    assert.deepEqual([rowsOf(lines), commits], [[["9", "z"]], []]);
    await client.close();
  });

  test("waits for a rewriting ALTER in flight, and describes the table as it is then", async () => {
    await tableOf("rewritten");
    const open = await writer("alter table rewritten alter column id type bigint, add column extra text default 'd'");
    const client = await server.greeted();
    client.subscribe(1, { table: "rewritten" });
    await lockIsWaitedFor();
    await open.commit();
    const { table, lines } = await client.joined(1);
    assert.deepEqual(
      table.columns.map(({ name, type }) => [name, type]),
      [
        ["id", "bigint"],
        ["v", "text"],
        ["extra", "text"],
      ],
    );
    assert.deepEqual(rowsOf(lines), [
      ["1", "a", "d"],
      ["2", "b", "d"],
    ]);
    await client.close();
  });

  test("of a table that was not published before waits for those who wrote it until then", async () => {
    await server.db.query("create table early (id int primary key)");
    const open = await writer("insert into early values (1)");
    const client = await server.greeted();
    client.subscribe(1, { table: "early" });
    await client.awaitXid(1, await server.transaction("select 1"));
    assert.equal(
      client.received.some((one) => "control" in one && one.control.kind === "described"),
      false,
    );
    await open.commit();
    const { lines, commits } = await client.joined(1);
    assert.deepEqual([lines, commits], [["1"], []]);
    await client.close();
  });
});
