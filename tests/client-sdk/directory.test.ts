/** Replicas in directories, and processes that are killed over them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "../../client-sdk/index.ts";
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
      ["--conditions=@walcast/source", fileURLToPath(new URL("killed.ts", import.meta.url)), peer.url, replica],
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
      await new Promise((resolve) => setImmediate(resolve));
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

function load(connection: PeerConnection, id: number, described: typeof orders, position: bigint): void {
  connection.describe(id, described);
  connection.join(position, { [id]: [] });
}
