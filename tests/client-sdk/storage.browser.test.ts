/** Replicas in a browser's storage: what is there again after a page has ended in whatever way. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, type TestContext, test } from "node:test";
import type { BrowserContext, Page } from "playwright-core";
import type { ClientOptions, Inspection } from "../../client-sdk/index.ts";
import { launchWithProfile } from "../support/browser.ts";
import { servePage } from "../support/page.ts";

import { inTime, until } from "../support/until.ts";
import { orders } from "./clients.ts";
import { commit, Peer, type PeerConnection, table, text } from "./peer.ts";
import type { Call, Commands } from "./storage/commands.ts";

const items = table("items", ["id integer", "status text"]);
const shapes = { orders: { table: "orders" }, items: { table: "items" } };

// For what takes a moment, on a machine that does everything else beside.
const IN_TIME_MS = 60_000;

const releases: (() => unknown)[] = [];
let context: BrowserContext;
let port: string;

before(async () => {
  const releasing = { after: (release: () => unknown) => void releases.push(release) };
  const [opened, address] = await Promise.all([
    launchWithProfile(releasing),
    servePage(releasing, { root: new URL("storage", import.meta.url) }),
  ]);
  context = opened;
  ({ port } = new URL(address));
});
after(async () => {
  for (const release of releases.reverse()) await release();
});

/** What page.ts leaves for us to reach. */
interface PageGlobals {
  inPage(name: Call["name"], argument: unknown): Promise<unknown>;
  inWorker(name: Call["name"], argument: unknown): Promise<unknown>;
  killWorker(): void;
}

/** A client in a worker of the page, or in the page itself. */
class Remote {
  readonly page: Page;
  private readonly where: "inPage" | "inWorker";

  constructor(page: Page, where: "inPage" | "inWorker") {
    this.page = page;
    this.where = where;
  }

  call<Name extends keyof Commands>(
    name: Name,
    argument?: Parameters<Commands[Name]>[0],
  ): Promise<Awaited<ReturnType<Commands[Name]>>> {
    const answer = this.page.evaluate(
      ([where, name, argument]) => (globalThis as unknown as PageGlobals)[where](name, argument),
      [this.where, name, argument] as const,
    ) as Promise<Awaited<ReturnType<Commands[Name]>>>;
    return inTime(answer, () => `the answer to ${name} ${JSON.stringify(argument)}`);
  }

  /** Rejects with what it shows instead, before the runner ends the test without a word. */
  async shows(what: string, holds: (inspection: Inspection) => boolean): Promise<void> {
    const giveUpMs = performance.now() + IN_TIME_MS;
    await until(async () => {
      const inspection = await this.call("inspect");
      if (performance.now() > giveUpMs) assert.fail(`expected ${what}, found ${JSON.stringify(inspection)}`);
      return holds(inspection);
    });
  }

  /** As when a tab is closed or the browser crashes. */
  async kill(): Promise<void> {
    if (this.where === "inPage") await this.page.goto(this.page.url());
    else await this.page.evaluate(() => (globalThis as unknown as PageGlobals).killWorker());
  }
}

let sites = 0;

/** Of a site of its own: its files are nobody else's. */
function newPage(t: TestContext): Promise<Page> {
  return pageOf(t, `http://site-${++sites}.localhost:${port}/`);
}

async function pageOf(t: TestContext, url: string, profile = context): Promise<Page> {
  const page = await profile.newPage();
  t.after(() => page.close());
  await page.goto(url);
  return page;
}

/** Where the browser is asked at each access, and may say no: who has a profile goes on with files that are gone. */
async function newIncognitoPage(t: TestContext): Promise<Page> {
  const incognito = await context.browser()!.newContext();
  t.after(() => incognito.close());
  return pageOf(t, `http://localhost:${port}/`, incognito);
}

function options(peer: Peer, replica: string, rest: Partial<ClientOptions> = {}): ClientOptions {
  return { url: peer.url, replica, backoff: { baseMs: 1, maxMs: 20 }, shapes, ...rest };
}

/** Serves both shapes, empty, at position 16. */
async function load(connection: PeerConnection): Promise<[number, number]> {
  const ids = [];
  for (const described of [orders, items]) ids.push(await connection.serve(described, [], 16n));
  return ids as [number, number];
}

async function resumed(connection: PeerConnection): Promise<[number, number]> {
  const ids = [];
  for (const _ of [orders, items]) {
    const { id } = await connection.message("subscribe");
    connection.send({ kind: "resumed", id });
    ids.push(id);
  }
  return ids as [number, number];
}

/** Every commit adds one row to each table, so a state is true if both have as many, up to the position. */
const insertAt = ([id, other]: readonly [number, number], position: bigint) => ({
  [id]: [commit(position, { kind: "insert", row: [String(position), "new"] })],
  [other]: [commit(position, { kind: "insert", row: [String(position), "new"] })],
});

async function ids(client: Remote, name: string): Promise<number[]> {
  return (await client.call("query", `select id from ${name} order by id`)).map(({ id }) => Number(id));
}

function lsn(position: string): number {
  return Number.parseInt(position.split("/")[1]!, 16);
}

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

for (const replica of ["idb://shop", "opfs-ahp://shop"])
  test(`${replica}: cut off at any moment it opens again at a position that was true, and goes on from there`, async (t) => {
    const peer = await Peer.start(t);
    const client = new Remote(await newPage(t), "inWorker");
    await client.call("open", options(peer, replica));
    let connection = await peer.greeted();
    let at = 16n;
    let subscriptions = await load(connection);
    await client.call("preload");
    for (const round of [0, 1]) {
      const seen = client.call("awaitPosition", text(at + 30n));
      for (let i = 0; i < 60; i++) connection.commits(++at, insertAt(subscriptions, at), i % 3 !== 0);
      await seen;
      // What comes while it is stored may be left out.
      const before = lsn((await client.call("inspect")).position);
      if (round === 0) await client.call("flush");
      await client.kill();
      await client.call("open", options(peer, replica));
      // Nobody has answered anything yet.
      await client.call("preload");
      const inspection = await client.call("inspect");
      const reached = lsn(inspection.position);
      assert.ok(round > 0 ? reached >= 16 : reached >= before, `${reached}`);
      assert.deepEqual([inspection.lastError, inspection.storage.fallback], [undefined, undefined]);
      assert.deepEqual(await ids(client, "orders"), range(17, reached));
      assert.deepEqual(await ids(client, "items"), range(17, reached));
      const resuming = await peer.resuming(BigInt(reached));
      assert.equal(resuming.hello.position, inspection.position);
      connection = resuming.connection;
      subscriptions = await resumed(connection);
      at = BigInt(reached);
    }
    connection.commits(++at, insertAt(subscriptions, at));
    await client.call("awaitPosition", text(at));
    const { refetches, resyncs } = await client.call("inspect");
    assert.deepEqual([refetches, resyncs], [0, 0]);
    await client.call("close");
  });

test("a database that is deleted while it is in use is stored again, and that is said", async (t) => {
  const peer = await Peer.start(t);
  const client = new Remote(await newPage(t), "inPage");
  await client.call("open", options(peer, "idb://shop"));
  const connection = await peer.greeted();
  const subscriptions = await load(connection);
  await client.call("preload");
  await client.call("flush");
  await client.page.evaluate(async () => {
    for (const { name } of await indexedDB.databases())
      await new Promise((resolve) => (indexedDB.deleteDatabase(name!).onsuccess = resolve));
  });
  connection.commits(17n, insertAt(subscriptions, 17n));
  await client.call("awaitPosition", text(17n));
  await client.call("flush");
  const { lastError, storage } = await client.call("inspect");
  assert.equal(lastError?.code, "replica_failed");
  assert.match(lastError.message, /deleted/);
  assert.deepEqual(storage, { kind: "idb", status: "current", fallback: undefined });
  await client.kill();
  await client.call("open", options(peer, "idb://shop"));
  await client.call("preload");
  assert.deepEqual(await ids(client, "orders"), [17]);
  assert.deepEqual(await ids(client, "items"), [17]);
});

test("a store that is damaged is loaded again, and that is said", async (t) => {
  const peer = await Peer.start(t);
  const client = new Remote(await newPage(t), "inPage");
  await client.call("open", options(peer, "idb://shop"));
  await load(await peer.greeted());
  await client.call("preload");
  await client.call("close");
  // One page of the table's own catalog.
  await client.page.evaluate(async () => {
    const [{ name }] = (await indexedDB.databases()) as [{ name: string }];
    const request = indexedDB.open(name);
    await new Promise((resolve) => (request.onsuccess = resolve));
    const transaction = request.result.transaction("pages", "readwrite");
    transaction.objectStore("pages").delete(["/global/pg_control", 0]);
    await new Promise((resolve) => (transaction.oncomplete = resolve));
    request.result.close();
  });
  await client.call("open", options(peer, "idb://shop"));
  await load(await peer.greeted());
  await client.call("preload");
  const { lastError } = await client.call("inspect");
  assert.equal(lastError?.code, "replica_failed");
  assert.match(lastError.message, /pg_control.*missing.*deleted/);
});

test("without room the last good state stays stored, the rows go on, and all is stored when there is room again", async (t) => {
  const peer = await Peer.start(t);
  const client = new Remote(await newPage(t), "inWorker");
  const quota = await quotaOf(client.page);
  await quota(24 << 20);
  await client.call("open", options(peer, "idb://shop"));
  const connection = await peer.greeted();
  const subscriptions = await load(connection);
  await client.call("preload");
  await client.call("flush");
  const [id] = subscriptions;
  // More than fits, also when it is compressed.
  const long = () => randomBytes(3 << 20).toString("base64");
  for (let at = 17n; at < 20n; at++)
    connection.commits(at, { [id]: [commit(at, { kind: "insert", row: [String(at), long()] })] });
  await client.call("awaitPosition", text(19n));
  await assert.rejects(client.call("flush"), /storage_full/);
  const full = await client.call("inspect");
  assert.equal(full.storage.status, "full");
  assert.equal(full.lastError?.code, "storage_full");
  assert.deepEqual(await ids(client, "orders"), range(17, 19));
  await quota();
  await client.call("flush");
  assert.equal((await client.call("inspect")).storage.status, "current");
  await client.kill();
  await client.call("open", options(peer, "idb://shop"));
  await client.call("preload");
  assert.deepEqual(await ids(client, "orders"), range(17, 19));
});

test("opfs-ahp:// in a page is refused; in a worker that gets too few files it is IndexedDB, under the same name", async (t) => {
  const peer = await Peer.start(t);
  const page = await newPage(t);
  await assert.rejects(new Remote(page, "inPage").call("open", options(peer, "opfs-ahp://shop")), /dedicated worker/);
  const client = new Remote(page, "inWorker");
  await client.call("allowFiles", 252);
  await client.call("open", options(peer, "opfs-ahp://shop"));
  const connection = await peer.greeted();
  connection.commits(17n, insertAt(await load(connection), 17n));
  await client.call("awaitPosition", text(17n));
  await client.call("flush");
  const { storage, lastError } = await client.call("inspect");
  assert.equal(storage.kind, "idb");
  assert.match(storage.fallback!, /enough files: too many/);
  assert.equal(lastError, undefined);
  await client.kill();
  await client.call("allowFiles", 252);
  await client.call("open", options(peer, "opfs-ahp://shop"));
  await client.call("preload");
  assert.deepEqual(await ids(client, "orders"), [17]);
});

test("files that their last owner still has open are waited for; where nothing is prepared, there are enough for Postgres' own", async (t) => {
  const peer = await Peer.start(t);
  const page = await newPage(t);
  await context.route(/empty/, (route) => route.abort());
  t.after(() => context.unroute(/empty/));
  const first = new Remote(page, "inWorker");
  await first.call("open", options(peer, "opfs-ahp://shop"));
  const connection = await peer.greeted();
  connection.commits(17n, insertAt(await load(connection), 17n));
  await first.call("awaitPosition", text(17n));
  const second = new Remote(await pageOf(t, page.url()), "inWorker");
  // As whoever has robbed the first of its lock, and comes before the files are free.
  await second.call("open", options(peer, "opfs-ahp://shop"));
  await until(async () => (await second.call("refusals")) > 0);
  await first.kill();
  await second.call("preload");
  assert.deepEqual(await ids(second, "orders"), [17]);
  assert.equal((await second.call("inspect")).lastError, undefined);
});

test("files that are deleted while they are in use: that is said, nothing hangs, and the next client loads them again", async (t) => {
  const peer = await Peer.start(t);
  const client = new Remote(await newIncognitoPage(t), "inWorker");
  await client.call("open", options(peer, "opfs-ahp://shop"));
  const connection = await peer.greeted();
  const subscriptions = await load(connection);
  await client.call("preload");
  await client.call("flush");
  // By the browser, as when somebody clears the site's data: a script may not delete what is open.
  const session = await client.page.context().newCDPSession(client.page);
  await session.send("Storage.clearDataForOrigin", { origin: originOf(client.page), storageTypes: "all" });
  let at = 16n;
  await client.shows("files that are gone", ({ lastError }) => {
    connection.commits(++at, insertAt(subscriptions, at));
    return lastError?.code === "replica_failed";
  });
  await assert.rejects(client.call("query", "select 1"), /replica_failed/);
  await client.kill();
  // A server of its own: the first client may have come back to its own in the meantime.
  const next = await Peer.start(t);
  await client.call("open", options(next, "opfs-ahp://shop"));
  await Promise.all([client.call("preload"), next.greeted().then(load)]);
  assert.deepEqual(await ids(client, "orders"), []);
});

test("files for which there is no room are not written into, and are when there is", async (t) => {
  const peer = await Peer.start(t);
  const client = new Remote(await newIncognitoPage(t), "inWorker");
  const quota = await quotaOf(client.page);
  await client.call("open", options(peer, "opfs-ahp://shop"));
  const connection = await peer.greeted();
  const subscriptions = await load(connection);
  await client.call("preload");
  // Less than the reserve is left.
  const { usage } = await client.page.evaluate(() => navigator.storage.estimate());
  await quota(usage! + (16 << 20));
  let at = 16n;
  await client.shows("files that may not grow", ({ storage }) => {
    connection.commits(++at, insertAt(subscriptions, at));
    return storage.status === "full";
  });
  await client.call("flush");
  const { position, lastError, storage } = await client.call("inspect");
  assert.equal(storage.status, "full");
  assert.equal(lastError?.code, "storage_full");
  assert.deepEqual(await ids(client, "orders"), range(17, lsn(position)));
  await quota();
  await client.call("awaitPosition", text(at));
  assert.deepEqual(await ids(client, "orders"), range(17, Number(at)));
  assert.notEqual((await client.call("inspect")).storage.status, "full");
});

test("whoever opened an IndexedDB store last writes it: what an earlier client has not stored yet is refused", async (t) => {
  const peer = await Peer.start(t);
  const page = await newPage(t);
  const first = new Remote(page, "inPage");
  await first.call("open", options(peer, "idb://shop"));
  const server = await peer.greeted();
  const subscriptions = await load(server);
  await first.call("preload");
  await first.call("flush");
  const second = new Remote(page, "inWorker");
  await second.call("open", options(peer, "idb://shop"));
  await second.call("preload");

  server.commits(17n, insertAt(subscriptions, 17n));
  await first.call("awaitPosition", text(17n));
  await assert.rejects(first.call("flush"), /another client has opened it since/);
  assert.equal((await first.call("inspect")).storage.status, "failed");
  await second.call("flush");
  await second.kill();
  await second.call("open", options(peer, "idb://shop"));
  await second.call("preload");
  assert.deepEqual(await ids(second, "orders"), []);
});

/** How many bytes the site may store from now on; as many as the browser likes, where nothing is said. */
async function quotaOf(page: Page): Promise<(bytes?: number) => Promise<void>> {
  const session = await page.context().newCDPSession(page);
  return async (bytes) => {
    const size = bytes === undefined ? {} : { quotaSize: bytes };
    await session.send("Storage.overrideQuotaForOrigin", { origin: originOf(page), ...size });
  };
}

function originOf(page: Page): string {
  return new URL(page.url()).origin;
}
