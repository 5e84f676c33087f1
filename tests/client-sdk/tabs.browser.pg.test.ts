/** Tabs of a real browser that share one replica, against a real engine. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { BrowserContext, Page } from "playwright-core";
import type { Client, LiveQuery } from "../../client-sdk/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { Random } from "../shapes/generate.ts";
import { launchWithProfile } from "../support/browser.ts";
import { type Example, examplesOf, scriptOf } from "../support/examples.ts";
import { processOf, stop } from "../support/renderer.ts";
import { servePage } from "../support/page.ts";
import { thorough } from "../support/thorough.ts";
import { inTime, until } from "../support/until.ts";
import { cuttable } from "./cuttable.ts";

/** What page.ts leaves for us to reach. */
interface PageGlobals {
  readonly client: Client & { readonly meeting: { readonly isHosting: boolean; readonly common: BroadcastChannel } };
  readonly live: LiveQuery<{ id: number; status: string }>;
  statusIs(status: string): Promise<void>;
  readonly shown: readonly string[];
  readonly heard: readonly unknown[];
}

const releasing: (() => Promise<unknown>)[] = [];
const releases = { after: (release: () => Promise<unknown>) => void releasing.push(release) };
let world: Running;
let url: string;
let context: BrowserContext;

before(async () => {
  world = await running(
    { topics: { news: { read: true } } },
    "CREATE TABLE orders (id int PRIMARY KEY, status text); INSERT INTO orders VALUES (1, 'new'), (2, 'new')",
  );
  url = await servePage(releases, { root: new URL("tabs", import.meta.url) });
  context = await launchWithProfile(releases);
});
after(async () => {
  await world.close();
  for (const release of releasing.reverse()) await release();
});

/** Those of one replica. */
class Tabs {
  readonly pages = new Set<Page>();
  readonly replica: string;

  constructor(t: TestContext, kind: "idb" | "opfs-ahp") {
    this.replica = `${kind}://${t.name.replaceAll(/\W/g, "-")}`;
    t.after(() => Promise.all(Array.from(this.pages, (page) => this.close(page))));
  }

  async open(options: Readonly<Record<string, string>> = {}): Promise<Page> {
    const page = await context.newPage();
    page.on("pageerror", (error) => console.error(error));
    const query = new URLSearchParams({ server: world.engine.url, replica: this.replica, ...options });
    await page.goto(`${url}/?${query.toString()}`);
    this.pages.add(page);
    return page;
  }

  async close(page: Page): Promise<void> {
    this.pages.delete(page);
    await page.close({ runBeforeUnload: false });
  }

  async crash(page: Page): Promise<void> {
    this.pages.delete(page);
    const session = await context.newCDPSession(page);
    // It cannot answer.
    await Promise.race([session.send("Page.crash").catch(() => {}), page.waitForEvent("crash")]);
  }

  /** The one whose worker has the replica. */
  async owner(): Promise<Page> {
    let owner: Page | undefined;
    await until(async () => {
      for (const page of this.pages) if (await isHosting(page)) owner = page;
      return owner !== undefined;
    });
    return owner!;
  }

  /** Changes all rows, and waits until every tab shows it. Returns the milliseconds that took. */
  async write(status: string): Promise<number> {
    const started = performance.now();
    await world.transaction(
      `UPDATE orders SET status = '${status}'`,
      `SELECT walcast.publish('news', to_jsonb('${status}'::text))`,
    );
    for (const page of this.pages)
      await until(
        async () =>
          (await page.evaluate(() => (globalThis as unknown as PageGlobals).shown.at(-1))) === `${status},${status}`,
      );
    return Math.round(performance.now() - started);
  }
}

function isHosting(page: Page): Promise<boolean> {
  return page.evaluate(() => (globalThis as unknown as PageGlobals).client.meeting.isHosting);
}

const steps = thorough(8, 5);

/** Who has opened the store last. */
function fenceOf(page: Page, replica: string): Promise<string> {
  return page.evaluate(
    async (name) => {
      const { promise, resolve, reject } = Promise.withResolvers<IDBDatabase>();
      const opening = indexedDB.open(name);
      opening.addEventListener("success", () => resolve(opening.result));
      opening.addEventListener("error", () => reject(opening.error));
      const database = await promise;
      const read = Promise.withResolvers<string>();
      const reading = database.transaction("owner").objectStore("owner").get("fence");
      reading.addEventListener("success", () => read.resolve(reading.result));
      const fence = await read.promise;
      database.close();
      return fence;
    },
    replica.replace("idb://", "walcast/"),
  );
}

/** By its worker. */
async function compiled(page: Page): Promise<readonly string[]> {
  const [worker] = page.workers();
  return (await worker?.evaluate(() => (globalThis as unknown as { compiled?: string[] }).compiled)) ?? [];
}

function shown(page: Page): Promise<readonly string[]> {
  return page.evaluate(() => (globalThis as unknown as PageGlobals).shown);
}

function clients(): Promise<number> {
  return world.metric('walcast_clients{state="live"}');
}

async function isOneClient(): Promise<boolean> {
  return (await clients()) === 1;
}

test("tabs share one replica and one socket, and go on when the one that has it is closed or crashes", async (t) => {
  const tabs = new Tabs(t, "opfs-ahp");
  const first = await tabs.open();
  await tabs.write("first");
  const others = [await tabs.open(), await tabs.open()];
  await tabs.write("shared");
  await until(isOneClient);
  const read = await others[0]!.evaluate(async () => {
    const { client } = globalThis as unknown as PageGlobals;
    const took: number[] = [];
    for (let i = 0; i < 200; i++) {
      const started = performance.now();
      await client.query("SELECT status FROM orders WHERE id = $1", [1]);
      took.push(performance.now() - started);
    }
    return took.sort((a, b) => a - b)[100]!;
  });
  t.diagnostic(`a read by key through another tab's worker: ${read.toFixed(2)} ms`);

  await tabs.close(first);
  t.diagnostic(`closed: the others show the next commit after ${await tabs.write("closed")} ms`);
  await tabs.crash(await tabs.owner());
  t.diagnostic(`crashed: ${await tabs.write("crashed")} ms`);
  const [last] = tabs.pages;
  const statuses = (await shown(last!)).map((rows) => rows.split(",")[0]);
  assert.deepEqual(statuses.slice(-3), ["shared", "closed", "crashed"]);
  await until(async () => {
    const heard = await last!.evaluate(() => (globalThis as unknown as PageGlobals).heard);
    return heard.slice(-2).join() === "closed,crashed";
  });
  await until(isOneClient);
});

test("the one tab that waits to be the next has PGlite compiled, and takes over with that", async (t) => {
  const tabs = new Tabs(t, "idb");
  const first = await tabs.open();
  await tabs.write("first");
  const next = await tabs.open({ observed: "" });
  await until(async () => (await compiled(next)).length === 1);
  const last = await tabs.open({ observed: "" });
  await tabs.write("second");
  await until(async () => {
    const { pending = [] } = await last.evaluate(() => navigator.locks.query());
    const [next, ...others] = pending.filter(({ name }) => name!.endsWith("/next"));
    const forStore = pending.filter(({ name }) => `${name}/next` === next?.name);
    return others.length === 0 && forStore.length === 1;
  });
  assert.deepEqual(await compiled(last), []);
  await tabs.close(first);
  await until(() => isHosting(next));
  await tabs.write("taken over");
  assert.match((await compiled(next)).join(), /^[^,]*pglite[^,]*\.wasm$/);
  await until(async () => (await compiled(last)).length === 1);
});

test("messages come before the worker has its Postgres, and each once though rows go on from a position of their own", async (t) => {
  const tabs = new Tabs(t, "opfs-ahp");
  const before = await tabs.open();
  await tabs.write("stored");
  await tabs.close(before);
  const page = await tabs.open({ observed: "held" });
  const heard = (): Promise<readonly unknown[]> => page.evaluate(() => (globalThis as unknown as PageGlobals).heard);
  await until(async () => (await clients()) === 1);
  for (let n = 1; (await heard()).length === 0; n++)
    await world.transaction(`SELECT walcast.publish('news', to_jsonb('early ${n}'::text))`);
  assert.deepEqual(await shown(page), []);
  await page.workers()[0]!.evaluate(() => (globalThis as unknown as { release(): void }).release());
  await tabs.write("late");
  await until(async () => (await heard()).at(-1) === "late");
  const found = await heard();
  assert.match(found.join(), /^(early \d+,)+late$/);
  assert.deepEqual(found, [...new Set(found)]);
});

test("a tab that is frozen gives the replica away, or is robbed of it and never writes to it again", async (t) => {
  const tabs = new Tabs(t, "idb");
  const first = await tabs.open();
  const second = await tabs.open();
  await tabs.write("first");
  const fence = await fenceOf(second, tabs.replica);
  const frozen = await processOf(first);
  assert.notEqual(frozen, await processOf(second));
  tabs.pages.delete(first);
  const ended = first.workers()[0]!.waitForEvent("close");
  const thaw = stop(frozen);
  t.after(thaw);
  const started = performance.now();
  await until(() => isHosting(second));
  await tabs.write("robbed");
  t.diagnostic(`robbed: the next commit is shown after ${Math.round(performance.now() - started)} ms`);
  const taken = await fenceOf(second, tabs.replica);
  assert.notEqual(taken, fence);
  thaw();
  await ended;
  tabs.pages.add(first);
  await tabs.write("thawed");
  assert.equal(await isHosting(first), false);
  assert.equal(await fenceOf(second, tabs.replica), taken, "it has opened nothing since");
  await until(isOneClient);

  await second.evaluate(() => document.dispatchEvent(new Event("freeze")));
  await until(() => isHosting(first));
  await tabs.write("given");
});

test("a frozen tab's files stay with it: who has robbed it hears messages meanwhile, and has its rows when it thaws", async (t) => {
  const tabs = new Tabs(t, "opfs-ahp");
  const first = await tabs.open();
  const second = await tabs.open();
  await tabs.write("first");
  const frozen = await processOf(first);
  assert.notEqual(frozen, await processOf(second));
  const ended = first.workers()[0]!.waitForEvent("close");
  const thaw = stop(frozen);
  t.after(thaw);
  await until(() => isHosting(second));
  const state = (): Promise<{ heard: unknown; shown: unknown; status: string }> =>
    second.evaluate(() => {
      const { client, heard, shown } = globalThis as unknown as PageGlobals;
      return { heard: heard.at(-1), shown: shown.at(-1), status: client.status };
    });
  await until(async () => {
    await world.transaction("SELECT walcast.publish('news', to_jsonb('meanwhile'::text))");
    return (await state()).heard === "meanwhile";
  });
  assert.deepEqual(await state(), { heard: "meanwhile", shown: "first,first", status: "connecting" });
  thaw();
  await ended;
  await tabs.write("thawed");
  assert.deepEqual([await isHosting(first), await isHosting(second)], [false, true]);
});

test("a worker that ends by itself is replaced, and nothing that was asked hangs", async (t) => {
  const tabs = new Tabs(t, "opfs-ahp");
  const only = await tabs.open();
  await tabs.write("first");
  const end = async (page: Page): Promise<void> => {
    const [worker] = page.workers();
    const ended = worker!.waitForEvent("close");
    // It may be gone before it has answered.
    await Promise.race([ended, worker!.evaluate(() => globalThis.close()).catch(() => {})]);
  };
  await end(only);
  const asked = only.evaluate(() =>
    (globalThis as unknown as PageGlobals).client.query<{ count: number }>("SELECT count(*)::int AS count FROM orders"),
  );
  const answered = await inTime(asked, () => "the answer to a query");
  assert.deepEqual(answered, [{ count: 2 }]);
  t.diagnostic(`ended: ${await tabs.write("second")} ms`);
  const lastError = await only.evaluate(() => (globalThis as unknown as PageGlobals).client.inspect().lastError);
  assert.match(lastError!.message, /worker ended without a word/);

  const other = await tabs.open();
  await tabs.write("shared");
  await end(only);
  await until(() => isHosting(other));
  await tabs.write("taken over");
  await until(isOneClient);
});

test("a tab of somebody else does not share, and gets through when it can", async (t) => {
  const tabs = new Tabs(t, "idb");
  const ours = await tabs.open();
  await tabs.write("ours");
  const other = await tabs.open({ token: "somebody else's" });
  const loaded = other.evaluate(() =>
    (globalThis as unknown as PageGlobals).client.preload().then(
      () => "shared",
      (error: { code: string }) => error.code,
    ),
  );
  const code = await inTime(loaded, () => "the other tab's rows, or why it has none");
  assert.equal(code, "config_invalid");
  assert.deepEqual(await shown(other), []);
  const statuses = await other.evaluate(() => {
    const { client, live } = globalThis as unknown as PageGlobals;
    return [client.status, live.status, client.shapes["orders"]!.status];
  });
  assert.deepEqual(statuses, ["offline", "error", "error"]);
  const become = (token: string): Promise<void> =>
    ours.evaluate((to) => (globalThis as unknown as PageGlobals).client.setToken(to), token);
  const isThrough = (): Promise<unknown> => {
    const coming = other.evaluate(async () => {
      const { client, live, statusIs } = globalThis as unknown as PageGlobals;
      await statusIs("live");
      await Promise.all([client.preload(), live.ready, client.live("SELECT").ready]);
    });
    return inTime(coming, () => "the other tab to get through");
  };
  await become("somebody else's");
  await isThrough();
  await tabs.write("shared");
  await become("of a third one");
  await other.evaluate(() => (globalThis as unknown as PageGlobals).statusIs("offline"));
  await tabs.close(ours);
  await isThrough();
  await tabs.write("theirs");
  assert.deepEqual(await shown(other), ["ours,ours", "shared,shared", "theirs,theirs"]);
  await until(async () => {
    const heard = await other.evaluate(() => (globalThis as unknown as PageGlobals).heard);
    return heard.at(-1) === "theirs";
  });
});

test("a page that is loaded again without a network has its rows, and follows what it writes into tables of its own", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const tabs = new Tabs(t, "opfs-ahp");
  const page = await tabs.open({ server: network.url });
  await tabs.write("kept");
  network.end();
  await page.reload();
  const rows = await page.evaluate(async () => {
    const { client, live } = globalThis as unknown as PageGlobals;
    await live.ready;
    const drafts = client.live<{ note: string }>("SELECT note FROM drafts JOIN orders USING (id) ORDER BY note");
    const seen: string[] = [];
    drafts.subscribe((rows) => seen.push(rows.map(({ note }) => note).join()));
    await client.pglite.exec("BEGIN READ WRITE; CREATE TABLE drafts (id int PRIMARY KEY, note text); COMMIT");
    await drafts.ready;
    const written = new Promise<void>((resolve) => drafts.onChange(() => drafts.rows.length === 2 && resolve()));
    await client.pglite.transaction((own) =>
      own.exec("SET TRANSACTION READ WRITE; INSERT INTO drafts VALUES (1, 'one'), (2, 'two'), (3, 'of no order')"),
    );
    await written;
    return [live.rows.map(({ status }) => status).join(), ...seen];
  });
  assert.deepEqual(rows, ["kept,kept", "", "one,two"]);
  await page.reload();
  const kept = await page.evaluate(() =>
    (globalThis as unknown as PageGlobals).client.query("SELECT count(*) FROM drafts JOIN orders USING (id)"),
  );
  assert.deepEqual(kept, [{ count: 2 }]);
});

test("five tabs that open, close and crash at random lose nothing, and never have two owners", async (t) => {
  const seed = Number(process.env["WALCAST_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`WALCAST_SEED=${seed}`);
  const random = new Random(seed);
  const tabs = new Tabs(t, random.of(["opfs-ahp", "idb"]));
  await tabs.open();
  for (let step = 0; step < steps; step++) {
    const pages = [...tabs.pages];
    const what = random.below(4);
    if (pages.length < 2 || (pages.length < 5 && what < 2)) await tabs.open();
    else if (what < 3) await tabs.close(random.of(pages));
    else await tabs.crash(random.of(pages));
    await tabs.write(`${step}`);
    const owners = await Promise.all([...tabs.pages].map((page) => isHosting(page)));
    assert.equal(owners.filter(Boolean).length, 1, `step ${step}`);
  }
  for (const page of tabs.pages) {
    const numbers = (await shown(page)).map((rows) => Number.parseInt(rows, 10) || 0);
    assert.deepEqual(
      numbers,
      numbers.toSorted((a, b) => a - b),
      "no tab goes back",
    );
  }
  await until(isOneClient);
});

test("docs/offline.md: its examples, run in a page as they stand there", async (t) => {
  const tabs = new Tabs(t, "idb");
  const [stored, persisted, offline, ...others] = await examplesOf("docs/offline.md");
  assert.deepEqual(others, []);
  const run = async (page: Page, one: Example, given: string, answer: string, replaced = {}): Promise<unknown> => {
    const script = (await scriptOf(one, replaced)).replace(/^import .*$/m, "");
    return page.evaluate(`(async () => { ${given}\n${script}\nreturn ${answer}; })()`);
  };
  const shapes = "const shapes = { orders: { table: 'orders' } };";
  const ids = "await client.query('SELECT id FROM orders ORDER BY id').finally(() => client.close())";
  const shop = { "wss://example.com": world.engine.url };
  const page = await tabs.open();
  assert.deepEqual(await run(page, stored!, shapes, ids, shop), [{ id: 1 }, { id: 2 }]);
  assert.equal(typeof (await run(page, persisted!, "", "isKept")), "boolean");

  const user = `${shapes} const url = "${world.engine.url}"; const session = { userId: "ada" };`;
  const online = `${user} const fetchToken = async () => "token";`;
  assert.deepEqual(await run(page, offline!, online, `(await client.preload(), ${ids})`), [{ id: 1 }, { id: 2 }]);
  const later = await tabs.open();
  const without = `${user} const fetchToken = async () => { throw new Error("no network"); };`;
  assert.deepEqual(await run(later, offline!, without, ids), [{ id: 1 }, { id: 2 }]);
});
