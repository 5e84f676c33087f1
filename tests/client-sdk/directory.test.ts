/** Replicas in directories, and processes that are killed over them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { mkdir, mkdtemp, open as openFile, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Writable } from "node:stream";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "../../client-sdk/index.ts";
import { Lock } from "../../client-sdk/lock.ts";
import { processFlags } from "../support/processes.ts";
import { emptyReplicaIn } from "../support/replica.ts";
import { orders } from "./clients.ts";
import { commit, Peer, type PeerConnection, table, text } from "./peer.ts";

const items = table("items", ["id integer", "status text"]);

async function directory(t: TestContext): Promise<string> {
  const parent = await mkdtemp(path.join(tmpdir(), "walcast-replica-"));
  t.after(() => rm(parent, { recursive: true, force: true }));
  return path.join(parent, "of", "a shop");
}

function open(t: TestContext, peer: Peer, replica: string): Client {
  const client = createClient({
    url: peer.url,
    replica,
    backoff: { baseMs: 1, maxMs: 20 },
    shapes: { orders: { table: "orders" }, items: { table: "items" } },
  });
  t.after(() => client.close());
  return client;
}

/** Every commit adds one row to each table, so a state is true if both have as many, up to the position. */
const insertAt = (id: number, other: number, position: bigint) => ({
  [id]: [commit(position, { kind: "insert", row: [String(position), "new"] })],
  [other]: [commit(position, { kind: "insert", row: [String(position), "new"] })],
});

async function subscriptions(server: PeerConnection): Promise<[number, number]> {
  return [(await server.message("subscribe")).id, (await server.message("subscribe")).id];
}

test("a process that is killed while commits arrive leaves a state that was true, and the next goes on from there", async (t) => {
  const replica = await directory(t);
  const peer = await Peer.start(t);
  let position = 16n;
  for (let round = 0; round < 4; round++) {
    const child = spawn(
      process.execPath,
      [...processFlags, fileURLToPath(new URL("killed.ts", import.meta.url)), peer.url, replica],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    t.after(() => child.kill("SIGKILL"));
    const { connection, hello } = await peer.resuming(position);
    const ids = await subscriptions(connection);
    if (round === 0) for (const [i, id] of ids.entries()) load(connection, id, [orders, items][i]!, position);
    else {
      assert.ok(hello.position !== undefined, "the replica knows where it is");
      assert.equal((await connection.message("resume")).kind, "resume");
      for (const id of ids) connection.send({ kind: "resumed", id });
      position = BigInt(`0x${hello.position.split("/")[1]}`);
    }
    // A few rows to know that it lives, then as many as come before it is dead, some in parts.
    const lines = createInterface(child.stdout);
    connection.commits(++position, insertAt(...ids, position));
    await once(lines, "line");
    const dead = once(child, "exit");
    setTimeout(() => child.kill("SIGKILL"), 5 * round);
    while (child.exitCode === null && child.signalCode === null) {
      position++;
      connection.commits(position, insertAt(...ids, position), Number(position) % 3 !== 0);
      await setImmediate();
    }
    await dead;
  }
  const client = open(t, peer, replica);
  await client.preload();
  const at = Number(client.position.split("/")[1] && BigInt(`0x${client.position.split("/")[1]}`));
  const expected = Array.from({ length: at - 16 }, (_, i) => ({ id: 17 + i }));
  assert.deepEqual(await client.query("select id from orders order by id"), expected);
  assert.deepEqual(await client.query("select id from items order by id"), expected);
  const { connection, hello } = await peer.resuming(BigInt(at));
  assert.equal(hello.position, client.position);
  const ids = await subscriptions(connection);
  for (const id of ids) connection.send({ kind: "resumed", id });
  connection.commits(BigInt(at + 1), insertAt(...ids, BigInt(at + 1)));
  await client.awaitPosition(text(BigInt(at + 1)));
  assert.equal((await client.query("select from items")).length, at - 15);
  assert.equal(client.inspect().refetches, 0);
});

test("a directory belongs to one client; files that cannot be opened are set aside, and loaded again", async (t) => {
  const replica = await directory(t);
  await mkdir(path.dirname(replica));
  await emptyReplicaIn(replica);
  const peer = await Peer.start(t);
  const client = open(t, peer, replica);
  assert.throws(() => open(t, peer, replica), { code: "config_invalid" });
  await client.query("select 1");
  await client.close();
  await writeFile(`${replica}.lock`, String(process.ppid));
  assert.throws(() => open(t, peer, replica), { code: "config_invalid", hint: /\.lock/ });
  await rm(`${replica}.lock`);
  await truncate(path.join(replica, "global", "pg_control"), 0);
  const again = open(t, peer, replica);
  assert.deepEqual(await again.query("select 1 as one"), [{ one: 1 }]);
  assert.equal(again.inspect().lastError?.code, "replica_failed");
  assert.ok((await readdir(path.dirname(replica))).some((name) => name.includes(".damaged-")));
});

test("a page in the middle of a table that Postgres refuses is found at the opening, and the rows are loaded again", async (t) => {
  const replica = await directory(t);
  const peer = await Peer.start(t);
  const shapes = { orders: { table: "orders" } };
  const client = createClient({ url: peer.url, replica, shapes });
  t.after(() => client.close());
  const rows = Array.from({ length: 2_000 }, (_, id) => [String(id), "new"]);
  await (await peer.greeted()).serve(orders, rows, 16n);
  await client.preload();
  const [file] = await client.query<{ path: string }>("SELECT pg_relation_filepath('orders') AS path");
  await client.close();
  const opened = await openFile(path.join(replica, file!.path), "r+");
  await opened.write(Buffer.alloc(100, 0xff), 0, 100, 4 * 8192);
  await opened.close();
  const again = createClient({ url: peer.url, replica, shapes });
  t.after(() => again.close());
  await (await peer.greeted()).serve(orders, rows.slice(0, 1), 32n);
  await again.preload();
  assert.match(again.inspect().lastError!.message, /loaded again: .*invalid page in block 4/);
  assert.deepEqual(await again.query("SELECT id FROM orders"), [{ id: 0 }]);
});

test("what another user left in a directory cannot be read by the PGlite itself either", async (t) => {
  const replica = await directory(t);
  const peer = await Peer.start(t);
  const shapes = { orders: { table: "orders" } };
  const ann = createClient({ url: peer.url, replica, subject: "ann", shapes });
  t.after(() => ann.close());
  const connection = await peer.greeted();
  load(connection, (await connection.message("subscribe")).id, orders, 16n);
  await ann.preload();
  assert.deepEqual((await ann.pglite.query("select from orders")).rows, []);
  await ann.pglite.exec("BEGIN READ WRITE; CREATE TABLE drafts AS SELECT 'a secret' AS note; COMMIT");
  await ann.close();
  const bob = createClient({ url: peer.url, replica, subject: "bob" });
  t.after(() => bob.close());
  await assert.rejects(bob.pglite.query("select from orders"), /"orders" does not exist/);
  await assert.rejects(bob.pglite.query("select from drafts"), /"drafts" does not exist/);
  assert.equal(bob.inspect().purges, 1);
});

test("what an application wrote outlives a store that is emptied for its user, and nobody else finds it", async (t) => {
  const replica = await directory(t);
  const peer = await Peer.start(t);
  const outdated = "BEGIN READ WRITE; UPDATE walcast.state SET format = 0; COMMIT";
  const found: unknown[] = [];
  for (const subject of ["ann", "ann", "bob"]) {
    const client = createClient({ url: peer.url, replica, subject });
    t.after(() => client.close());
    found.push(await client.query("select note from drafts").catch(({ code }) => code));
    await client.pglite.exec("BEGIN READ WRITE; CREATE TABLE IF NOT EXISTS drafts AS SELECT 'mine' AS note; COMMIT");
    await client.pglite.exec(outdated);
    await client.close();
  }
  assert.deepEqual(found, ["query_failed", [{ note: "mine" }], "query_failed"]);
});

async function lockFile(t: TestContext): Promise<string> {
  const parent = await mkdtemp(path.join(tmpdir(), "walcast-replica-"));
  t.after(() => rm(parent, { recursive: true, force: true }));
  return path.join(parent, "shop.lock");
}

for (const [what, text] of [
  ["a process that is no more", "4194305 123\n"],
  ["a process that is no more, and said nothing about its beginning", "4194305"],
  ["an earlier process with the pid of this one", `${process.pid} 1\n`],
  ["an earlier process with the pid of another that lives", `${process.ppid} 1\n`],
  ["nobody, as it was only just made", ""],
] as const)
  test(`a replica's lock that was left by ${what} does not hold`, async (t) => {
    const file = await lockFile(t);
    await writeFile(file, text);
    const lock = new Lock(file, fs);
    assert.equal(lock.take(), undefined);
    assert.match(fs.readlinkSync(file), new RegExp(`^${process.pid} `));
    assert.equal(new Lock(file, fs).take(), process.pid, "and from then on it does");
    lock.release();
    assert.deepEqual(fs.readdirSync(path.dirname(file)), []);
  });

test("a process that has ended does not hold a replica's lock, also if nobody has asked how", async (t) => {
  const file = await lockFile(t);
  // A parent that never asks what became of its child, which ends once it is `sleep` and no shell.
  const script = "cat <&3 >/dev/null & echo $!; exec sleep 60 3<&-";
  const parent = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "ignore", "pipe"] });
  t.after(() => parent.kill());
  const [pid] = (await once(parent.stdout!, "data")) as [Buffer];
  while (!fs.readFileSync(`/proc/${parent.pid}/stat`, "utf8").includes("(sleep)")) await setImmediate();
  (parent.stdio[3] as Writable).end();
  while (!/^\S+ \S+ Z/.test(fs.readFileSync(`/proc/${String(pid).trim()}/stat`, "utf8"))) await setImmediate();
  await writeFile(file, String(pid));
  const lock = new Lock(file, fs);
  assert.equal(lock.take(), undefined);
  lock.release();
});

/** As another process would in between: it takes the lock before `made` is made for the first time. */
function meanwhile(file: string, made: string): typeof fs {
  let isTaken = false;
  const symlinkSync = (target: string, to: string): void => {
    if (to === made && !isTaken) {
      fs.rmSync(file, { force: true });
      fs.symlinkSync(String(process.ppid), file);
    }
    isTaken ||= to === made;
    fs.symlinkSync(target, to);
  };
  return { ...fs, symlinkSync: symlinkSync as typeof fs.symlinkSync };
}

for (const [what, made, text] of [
  ["of two processes that take a replica at once", "", undefined],
  ["of two that find a replica's lock left behind at once", ".guard", "999999999"],
] as const)
  test(`${what}, one is told of the other`, async (t) => {
    const file = await lockFile(t);
    if (text !== undefined) await writeFile(file, text);
    assert.equal(new Lock(file, meanwhile(file, `${file}${made}`)).take(), process.ppid);
    assert.equal(fs.readlinkSync(file), String(process.ppid));
    assert.deepEqual(fs.readdirSync(path.dirname(file)), [path.basename(file)]);
  });

test("a replica's lock that is something else, and cannot be removed, is an error at once", async (t) => {
  const file = await lockFile(t);
  fs.mkdirSync(file);
  assert.throws(() => new Lock(file, fs).take(), { code: "ERR_FS_EISDIR" });
});

test("where there can be no links a file is a replica's lock", async (t) => {
  const file = await lockFile(t);
  const symlinkSync = (): void => {
    throw Object.assign(new Error("not here"), { code: "EPERM" });
  };
  const without = { ...fs, symlinkSync: symlinkSync as typeof fs.symlinkSync };
  await writeFile(file, "999999999");
  const lock = new Lock(file, without);
  assert.equal(lock.take(), undefined);
  assert.match(await readFile(file, "utf8"), new RegExp(`^${process.pid} `));
  lock.release();
  await writeFile(file, String(process.ppid));
  assert.equal(new Lock(file, without).take(), process.ppid);
});

function load(connection: PeerConnection, id: number, described: typeof orders, position: bigint): void {
  connection.describe(id, described);
  connection.join(position, { [id]: [] });
}
