/** A client that does not take what it is sent costs a bounded amount of memory, and nobody else's time. Then it catches up. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import type { Commit } from "../../engine/protocol.ts";
import { type RawClient, rowsOf, shownCommits } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

const MiB = 1 << 20;

describe("a slow client", () => {
  let server: Running;
  // Another one: under load, a client that only is slow may also answer late.
  let impatient: Running;
  let silent: RawClient;
  let quiet: RawClient;
  const backlogBytesPerConnection = 256 * 1024;
  const frameBytes = 4096;
  before(
    async () =>
      (server = await running(
        { limits: { backlogBytesPerConnection, largeTransactionBytes: MiB, frameBytes }, positionEveryMs: 50 },
        `create table items (id int primary key, v text); create table others (id int primary key, v text);
         create table bulk (id int primary key, v text); create table quiet (id int primary key)`,
      )),
  );
  // Its time passes while the others are tested.
  before(async () => {
    impatient = await running({ limits: { idleMs: 8_000 } });
    [silent, quiet] = [await impatient.greeted(), await impatient.greeted()];
    // It hears the pings, and answers none.
    silent.socket.pong = () => {};
  });
  after(() => Promise.all([server.close(), impatient.close()]));

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

  test("transactions around the size of a frame, of the budget and of a large one come whole, to who is there and to who comes back", async () => {
    await server.db.query("create table sized (id int primary key, v text)");
    const shapes = [{ table: "sized" }, { table: "sized", where: "id > 0" }];
    const [there, away] = [await server.greeted(), await server.greeted()];
    const identities: string[] = [];
    for (const [i, shape] of shapes.entries()) {
      await there.load(i + 1, shape);
      identities.push((await away.load(i + 1, shape)).table.identity);
    }
    await away.close();
    const written: Sized[] = [];
    const write = async (...lengths: readonly number[]): Promise<void> => {
      const rows = lengths.map((length, i) => [1_000 + 10 * written.length + i, length] as const);
      const values = rows.map(([id, length]) => `(${id}, repeat('x', ${length}))`).join();
      const xid = await server.transaction(`insert into sized values ${values}`);
      written.push({ xid: BigInt(xid), rows });
      // So that it comes alone.
      await there.awaitXid(written.length, xid);
    };
    const files = async (): Promise<number> =>
      (await readdir(server.dataDir, { recursive: true })).filter((name) => name.endsWith(".large")).length;
    const before = await files();
    for (const more of [-1, 0, 1]) {
      // Of the commit 29 bytes, of each row 17: see docs/protocol.md.
      await write(frameBytes - 29 - 17 + more, 1, 1);
      await write(1, frameBytes - 29 - 2 * 17 - 1 + more);
      await write(frameBytes / 2 - 29 - 17 + more);
      for (const size of [backlogBytesPerConnection / 2, backlogBytesPerConnection]) await write(size - 29 - 17 + more);
      // Of each message of pgoutput 22 bytes.
      await write(1, 500_000, MiB - 3 * 22 - 500_001 + more);
    }
    const last = String(written.at(-1)!.xid);
    assert.equal(await files(), before + 1, "only what is larger is large");
    const back = await server.greeted(undefined, away.left);
    for (const [i, shape] of shapes.entries()) back.claim(i + 1, shape, identities[i]!);
    back.send({ kind: "resume" });
    await back.awaitXid(1, last);
    for (const client of [there, back]) {
      for (const id of [1, 2]) assert.deepEqual(shownCommits(client, id).map(sized), written);
      await client.close();
    }
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

  test("that is silent though it is pinged is gone after idleMs; who has nothing to say but answers stays", async () => {
    assert.equal((await silent.closed).code, 1006);
    quiet.send({ kind: "ping" });
    await quiet.control("pong");
  });
});

interface Sized {
  readonly xid: bigint;
  /** Its inserts, each as id and how long the value is. */
  readonly rows: readonly (readonly [id: number, length: number])[];
}

function sized({ xid, operations }: Commit): Sized {
  const rows = operations.map((one) => {
    assert.ok(one.kind === "insert");
    const [id, v] = one.row as readonly string[];
    return [Number(id), v!.length] as const;
  });
  return { xid, rows };
}

function isShown(client: RawClient, xid: string): boolean {
  return shownCommits(client, 1).some((commit) => commit.xid === BigInt(xid));
}
