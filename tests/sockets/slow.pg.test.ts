/** A client that does not take what it is sent costs a bounded amount of memory, and nobody else's time. Then it catches up. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type RawClient, rowsOf, shownCommits } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

const MiB = 1 << 20;

describe("a slow client", () => {
  let server: Running;
  const backlogBytesPerConnection = 256 * 1024;
  before(
    async () =>
      (server = await running(
        { limits: { backlogBytesPerConnection, largeTransactionBytes: MiB, frameBytes: 4096 }, positionEveryMs: 50 },
        `create table items (id int primary key, v text); create table others (id int primary key, v text);
         create table bulk (id int primary key, v text); create table quiet (id int primary key)`,
      )),
  );
  after(() => server.close());

  const behind = (): Promise<number> => server.metric("walcast_slow_consumers_total");

  /** Writes until somebody has fallen behind. */
  async function flood(table: string, first: number): Promise<bigint[]> {
    const before = await behind();
    const xids: bigint[] = [];
    for (let id = first; (await behind()) === before; id++) {
      assert.ok(id < first + 500, "the budget is reached");
      xids.push(BigInt(await server.transaction(`insert into ${table} values (${id}, repeat('x', ${MiB / 4}))`)));
    }
    return xids;
  }

  async function rowsIn(table: string): Promise<number> {
    const { rows } = await server.db.query(`select count(*)::int as count from ${table}`);
    return (rows[0] as { count: number }).count;
  }

  test("falls behind, and gets all that it missed, once and in order, when it goes on", async () => {
    const slow = await server.greeted();
    const quick = await server.greeted();
    await slow.load(1, { table: "items" });
    await quick.load(1, { table: "items" });
    slow.socket.pause();
    const xids = await flood("items", 1);
    for (let id = 1_000; id < 1_020; id++)
      xids.push(BigInt(await server.transaction(`insert into items values (${id}, 'y')`)));
    await quick.awaitXid(1, String(xids.at(-1)));
    slow.socket.resume();
    await slow.awaitXid(1, String(xids.at(-1)));
    const commits = shownCommits(slow, 1);
    assert.deepEqual(
      commits.map(({ xid }) => xid),
      xids,
    );
    assert.equal(
      commits.reduce((sum, { operations }) => sum + operations.length, 0),
      await rowsIn("items"),
    );
    const next = await server.transaction("delete from items");
    assert.equal((await slow.commit(1)).xid, BigInt(next));
    await slow.close();
    await quick.close();
  });

  test("that falls behind inside a commit is told to forget the part it has", async () => {
    const slow = await server.greeted();
    await slow.load(1, { table: "others" });
    const isRewound = (): boolean => slow.received.some((one) => "control" in one && one.control.kind === "rewind");
    // Of hundreds of frames in a commit, the one that the socket has no room for could also be the first.
    for (let first = 1; !isRewound(); first += 100_000) {
      assert.ok(first < 500_000, "it falls behind inside a commit");
      slow.socket.pause();
      const xids: string[] = [];
      const before = await behind();
      for (let id = first; (await behind()) === before; id += 1_000)
        xids.push(
          await server.transaction(
            `insert into others select g, repeat('x', 900) from generate_series(${id}, ${id + 900}) g`,
          ),
        );
      slow.socket.resume();
      await slow.awaitXid(1, xids.at(-1)!);
    }
    const operations = shownCommits(slow, 1).flatMap((commit) => commit.operations);
    assert.equal(operations.length, await rowsIn("others"));
    await slow.close();
  });

  test("a large transaction reaches those whose rows it has, while all others go on", async () => {
    const concerned = await server.greeted();
    const other = await server.greeted();
    await concerned.load(1, { table: "bulk" });
    await other.load(1, { table: "quiet" });
    concerned.socket.pause();
    const large = await server.transaction(
      "insert into bulk select g, repeat(md5(g::text), 10) from generate_series(1, 40000) g",
    );
    const small = await server.transaction("insert into quiet values (1)");
    await other.awaitXid(1, small);
    assert.ok(!isShown(concerned, large));
    concerned.socket.resume();
    await concerned.awaitXid(1, large);
    const [commit, ...more] = shownCommits(concerned, 1);
    assert.deepEqual([commit!.xid, commit!.operations.length, more.length], [BigInt(large), 40_000, 0]);
    assert.equal(new Set(commit!.operations.map((one) => one.kind === "insert" && one.row[0])).size, 40_000);
    const after = await server.transaction("insert into bulk values (0, 'after')");
    assert.equal((await concerned.commit(1)).xid, BigInt(after));
    await concerned.close();
    await other.close();
  });

  test("a shape that loads while a large transaction is on its way has it once", async () => {
    await server.db.query(
      "create table loading (id int primary key, v text); insert into loading select g, 'first' from generate_series(1, 1000) g",
    );
    const writing = server.transaction(
      "insert into loading select g, repeat(md5(g::text), 10) from generate_series(1001, 20000) g",
    );
    const client = await server.greeted();
    const { lines, commits } = await client.load(1, { table: "loading" });
    await client.awaitXid(1, await writing);
    const keys = new Set(rowsOf(lines).map(([id]) => id));
    for (const { operations } of [...commits, ...shownCommits(client, 1)])
      for (const operation of operations) {
        assert.ok(operation.kind === "insert" && !keys.has(operation.row[0]));
        keys.add(operation.row[0]);
      }
    assert.equal(keys.size, 20_000);
    await client.close();
  });

  test("a row larger than the budget comes all the same", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    const xid = await server.transaction(`insert into items values (1, repeat('x', ${20 * MiB}))`);
    await client.awaitXid(1, xid);
    const [commit] = shownCommits(client, 1);
    assert.ok(commit!.operations[0]!.kind === "insert" && commit!.operations[0]!.row[1]!.length === 20 * MiB);
    await client.close();
  });

  test("that pauses in the middle of its first rows keeps its connection, and holds up nobody who loads the same", async () => {
    await server.db.query(
      "create table large (id int primary key, v text); insert into large select g, repeat(md5(g::text), 32) from generate_series(1, 20000) g",
    );
    const slow = await server.greeted();
    const quick = await server.greeted();
    slow.subscribe(1, { table: "large" });
    await slow.control("described");
    slow.socket.pause();
    assert.equal((await quick.load(1, { table: "large" })).lines.length, 20_000);
    slow.socket.resume();
    const frame = await slow.frame((one) => one.kind === "join");
    assert.equal(frame.sections[0]!.subscription, 1);
    const bytes = slow.received.reduce(
      (sum, one) =>
        sum + ("frame" in one ? one.frame.sections.reduce((size, { payload }) => size + payload.length, 0) : 0),
      0,
    );
    assert.ok(bytes > 19 * MiB);
    await slow.close();
    await quick.close();
  });

  test("that asks on and on without taking the answers is closed with 4429", async () => {
    const client = await server.greeted();
    client.socket.pause();
    for (let i = 0; i < 60_000; i++) client.send({ kind: "unsubscribe", id: 1 });
    client.socket.resume();
    const closed = await Promise.race([
      client.closed,
      client.awaitXid(1, await server.transaction("delete from items")),
    ]);
    assert.ok(typeof closed === "bigint" || closed.code === 4429 || closed.code === 1006);
    await client.close();
  });
});

function isShown(client: RawClient, xid: string): boolean {
  return shownCommits(client, 1).some((commit) => commit.xid === BigInt(xid));
}
