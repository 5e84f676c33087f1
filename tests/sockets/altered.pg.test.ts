/** A table that gets a column, or an enum that gets a label, while clients are there: nothing is loaded again. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { shownCommits } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

describe("a table that changes in a way that its rows can follow", () => {
  let server: Running;
  before(async () => (server = await running({ limits: { backlogBytesPerConnection: 256 * 1024, frameBytes: 4096 } })));
  after(() => server.close());

  async function tableOf(name: string): Promise<void> {
    await server.db.query(
      `create table ${name} (id int primary key, v text); insert into ${name} select g, 'v' || g from generate_series(1, 3) g`,
    );
  }

  test("is told in its place, and its rows come in the new form from there on", async () => {
    await tableOf("grown");
    const client = await server.greeted();
    const { table } = await client.load(1, { table: "grown" });
    await client.load(2, { table: "grown", columns: ["id"], where: "id > 1" });
    await server.transaction("insert into grown values (4, 'old')");
    await server.transaction("alter table grown add column extra int default 7, add column note text");
    await server.transaction("insert into grown values (5, 'new', 8, 'n')");
    const whole = await client.control("altered", ({ id }) => id === 1);
    assert.deepEqual(whole.added, [
      { name: "extra", value: "7" },
      { name: "note", value: null },
    ]);
    assert.notEqual(whole.table.version, table.version);
    const last = await server.transaction("update grown set extra = 9 where id = 1");
    await client.awaitXid(1, last);
    assert.deepEqual(
      shownCommits(client, 1).flatMap(({ operations }) => operations),
      [
        { kind: "insert", row: ["4", "old"] },
        { kind: "insert", row: ["5", "new", "8", "n"] },
        { kind: "update", row: ["1", "v1", "9", null] },
      ],
    );
    const narrow = client.received.find(
      (one) => "control" in one && one.control.kind === "altered" && one.control.id === 2,
    );
    assert.ok(narrow && "control" in narrow && narrow.control.kind === "altered");
    assert.deepEqual(narrow.control.added, []);
    assert.equal(
      client.received.some((one) => "control" in one && one.control.kind === "resync"),
      false,
    );
    await client.close();
  });

  test("is told before the changes of its own transaction, and resumed under its new identity", async () => {
    await tableOf("twofold");
    const client = await server.greeted();
    await client.load(1, { table: "twofold" });
    const xid = await server.transaction(
      "alter table twofold add column extra int",
      "insert into twofold values (4, 'x', 1)",
    );
    const { table } = await client.control("altered");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["4", "x", "1"] }]);
    await client.awaitXid(1, xid);
    await client.close();
    const again = await server.greeted(undefined, client.left);
    again.claim(1, { table: "twofold" }, table.identity);
    again.send({ kind: "resume" });
    await again.control("resumed");
    await again.close();
  });

  test("is told to a client that is behind when it gets there", async () => {
    await tableOf("passed");
    const client = await server.greeted();
    await client.load(1, { table: "passed" });
    client.socket.pause();
    const before = await server.metric("walcast_slow_consumers_total");
    for (let id = 10; (await server.metric("walcast_slow_consumers_total")) === before; id++)
      await server.transaction(`insert into passed values (${id}, repeat('x', 200000))`);
    await server.transaction("alter table passed add column extra int default 7");
    const last = await server.transaction("insert into passed values (9, 'last', 8)");
    client.socket.resume();
    await client.control("altered");
    await client.awaitXid(1, last);
    assert.deepEqual(shownCommits(client, 1).at(-1)!.operations, [{ kind: "insert", row: ["9", "last", "8"] }]);
    await client.close();
  });

  test("is not told again to a client that falls behind inside a later commit", async () => {
    await tableOf("settled");
    const client = await server.greeted();
    await client.load(1, { table: "settled" });
    await client.awaitXid(1, await server.transaction("alter table settled add column extra int default 7"));
    const told = (): string[] => client.received.flatMap((one) => ("control" in one ? [one.control.kind] : []));
    // Of hundreds of frames in a commit, the one that the socket has no room for could also be the first.
    for (let first = 1_000; !told().includes("rewind"); first += 100_000) {
      assert.ok(first < 500_000, "it falls behind inside a commit");
      client.socket.pause();
      const before = await server.metric("walcast_slow_consumers_total");
      let last = "";
      for (let id = first; (await server.metric("walcast_slow_consumers_total")) === before; id += 1_000)
        last = await server.transaction(
          `insert into settled select g, repeat('x', 900), 8 from generate_series(${id}, ${id + 900}) g`,
        );
      client.socket.resume();
      await client.awaitXid(2 + first, last);
    }
    assert.deepEqual([told().filter((kind) => kind === "altered").length, told().includes("resync")], [1, false]);
    await client.close();
  });

  test("is loaded anew where its note cannot be written in time, and only for that change", async () => {
    await tableOf("kept_waiting");
    await tableOf("beside");
    const client = await server.greeted();
    await client.load(1, { table: "kept_waiting" });
    await client.load(2, { table: "beside" });
    const before = await server.metric("walcast_unknown_schema_changes_total");
    const holder = await server.db.pool.connect();
    // Enough for the table itself, which whoever read its first rows may still be about to let go.
    const impatiently = "set local lock_timeout = '500ms'";
    await holder.query("begin; lock table walcast.schema_changes in access exclusive mode");
    await server.transaction(impatiently, "alter table kept_waiting add column late int");
    await holder.query("rollback");
    const { id, cause } = await client.control("resync");
    assert.deepEqual([id, cause.code], [1, "schema_changed"]);
    await client.joined(1);
    assert.equal(await server.metric("walcast_unknown_schema_changes_total"), before + 1);
    assert.ok(server.logged.some((line) => /how could not be noted/.test(line) && /lock timeout/.test(line)));

    await holder.query("begin; select from walcast.ready_tables for update");
    await server.transaction(impatiently, "alter table kept_waiting add column later int");
    assert.equal((await client.control("altered")).id, 1, "what need not wait is not given up");
    await server.transaction(impatiently, "alter publication walcast drop table beside");
    assert.equal((await client.control("resync", ({ id: resynced }) => resynced === 2)).id, 2);
    await holder.query("rollback");
    holder.release();
    const resyncs = client.received.filter((one) => "control" in one && one.control.kind === "resync");
    assert.equal(resyncs.length, 2);
    await client.close();
  });

  test("by a label of an enum goes on", async () => {
    await server.db.query("create type mood as enum ('sad', 'glad'); create table moods (id int primary key, m mood)");
    const client = await server.greeted();
    await client.load(1, { table: "moods", where: "m <> 'sad'" });
    await server.db.query("alter type mood add value 'so-so' before 'glad'");
    const xid = await server.transaction("insert into moods values (1, 'so-so'), (2, 'sad')");
    await client.awaitXid(1, xid);
    assert.deepEqual(shownCommits(client, 1)[0]!.operations, [{ kind: "insert", row: ["1", "so-so"] }]);
    await client.close();
  });
});
