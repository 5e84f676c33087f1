/** The main promise, seen in a browser: what is committed in Postgres moves in the open page, whole, and nothing else does. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Client } from "../../client-sdk/index.ts";
import { readable } from "../../examples/order-dashboard/server/readable.ts";
import { thorough } from "../support/thorough.ts";
import { until } from "../support/until.ts";
import { type Dashboard, openDashboard, type Window } from "./dashboard.ts";

/** Between two attempts to connect, as a client comes. */
const longestWaitS = 15;

describe("the order dashboard in a browser", () => {
  let dashboard: Dashboard;
  let window: Window;
  let other: Window;
  const releases: (() => Promise<void>)[] = [];

  before(async () => {
    dashboard = await openDashboard({ after: (release) => void releases.push(release) });
    [window, other] = await Promise.all([
      dashboard.open(),
      dashboard.open({ colorScheme: "dark", viewport: { width: 390, height: 844 } }),
    ]);
  });

  after(async () => {
    for (const release of releases.reverse()) await release();
  });

  const sql = (text: string, params: readonly unknown[] = []) => dashboard.db.query(text, params);

  test("an UPDATE changes the row's text, in every window", async () => {
    await sql("UPDATE orders SET status = 'delivered', amount = 4321.09 WHERE id = 11990");
    await Promise.all([window, other].map((each) => each.shows(11990, "€4,321.09")));
    assert.equal(await window.status(11990), "Delivered");
    assert.equal(await other.status(11990), "Delivered");
  });

  test("an INSERT appears on top, a DELETE disappears", async () => {
    const { rows } = await sql("INSERT INTO orders (customer_id, amount) VALUES (1, 77.77) RETURNING id");
    const id = rows[0].id as number;
    await window.shows(id, "€77.77");
    assert.equal(await window.page.locator("[data-order-id]").first().getAttribute("data-order-id"), String(id));
    await sql("DELETE FROM orders WHERE id = $1", [id]);
    await window.row(id).waitFor({ state: "detached" });
    await other.row(id).waitFor({ state: "detached" });
  });

  test("an order is announced in every window by its own transaction, beside the table's controls; one rolled back never is", async () => {
    const undone = await dashboard.db.pool.connect();
    await undone.query("BEGIN");
    const { rows: placed } = await undone.query("SELECT place_order() AS id");
    await undone.query("ROLLBACK");
    undone.release();
    const { rows } = await sql("SELECT place_order() AS id");
    const looksAt = async ({ page, row }: Window): Promise<void> => {
      await page.locator("[aria-live=polite] .toast", { hasText: `Order ${rows[0].id}:` }).waitFor();
      await row(rows[0].id).waitFor();
      assert.equal(await page.getByText(`Order ${placed[0].id}:`).count(), 0);
      await row(11_995).scrollIntoViewIfNeeded();
      assert.deepEqual(await page.evaluate(coveredControls), []);
    };
    // At once: an announcement leaves by itself.
    await Promise.all([window, other].map(looksAt));
    await other.page.getByRole("button", { name: "Place an order" }).click();
    await window.page.locator(".toast", { hasText: `Order ${rows[0].id + 1}:` }).waitFor();
  });

  test("each window shows who looks, from when they come until they leave", async () => {
    const faces = window.page.locator(".viewers .face");
    await faces.nth(1).waitFor();
    assert.match(await window.page.locator(".viewers").innerText(), /Looking at this page: \w+ \(you\), \w+/);
    await other.page.evaluate(() => dispatchEvent(new Event("pagehide")));
    await faces.nth(1).waitFor({ state: "detached" });
    await other.page.evaluate(() => dispatchEvent(new Event("pageshow")));
    await faces.nth(1).waitFor();
    assert.equal(await faces.count(), 2);
  });

  test("the report is fetched again once for a commit, and once for those that come meanwhile", async () => {
    const { page } = window;
    const sell = (pieces: number) =>
      sql("UPDATE order_items SET quantity = $1 WHERE order_id = 11990 AND line = 1", [pieces]);
    const best = page.locator(".bestsellers li").first();
    /** All that was committed has been told. */
    const isTold = async (): Promise<void> => {
      const { rows } = await sql("SELECT pg_current_wal_lsn()::text AS position");
      await page.evaluate((position) => walcast.awaitPosition(position), rows[0].position as string);
    };
    let requests = 0;
    let answered = 0;
    let isHeld = Promise.withResolvers<void>();
    page.on("requestfinished", (request) => void (answered += Number(request.url().endsWith("/api/report"))));
    await page.route("**/api/report", async (route) => {
      requests++;
      await isHeld.promise;
      await route.continue();
    });
    // What was committed while one was held has the next, and after that nothing is due.
    await sell(100_000);
    await until(() => requests >= 1);
    await sell(150_000);
    await isTold();
    answered = 0;
    isHeld.resolve();
    await until(() => answered >= 2);
    await best.filter({ hasText: /15\d,\d+ pcs/ }).waitFor();
    requests = 0;
    await sql("UPDATE orders SET amount = amount + 1 WHERE id = 11990");
    await sell(200_000);
    await best.filter({ hasText: /20\d,\d+ pcs/ }).waitFor();
    assert.equal(requests, 1);
    isHeld = Promise.withResolvers<void>();
    await sell(300_000);
    await until(() => requests >= 2);
    for (const pieces of [1, 2, 3, 400_000]) await sell(pieces);
    await isTold();
    isHeld.resolve();
    await until(() => requests >= 3);
    await best.filter({ hasText: /40\d,\d+ pcs/ }).waitFor();
    await sql("SELECT walcast.revalidate('{report}')");
    await until(() => requests >= 4);
    await sell(500_000);
    // The one that is under way may have it already.
    await until(() => requests >= 5);
    await best.filter({ hasText: /50\d,\d+ pcs/ }).waitFor();
    assert.equal(requests, 5);
    await page.unroute("**/api/report");
  });

  test("only rows that really changed are lit up", async () => {
    await window.page.evaluate(() => void (flashed.length = 0));
    await sql("UPDATE orders SET amount = amount WHERE id = 11980");
    await sql("UPDATE orders SET amount = 1981.5 WHERE id = 11981");
    await window.shows(11981, "€1,981.50");
    assert.deepEqual(await window.page.evaluate(() => flashed), ["11981"]);
  });

  test("nothing is lit up for users who want less motion", async () => {
    await other.page.emulateMedia({ reducedMotion: "reduce" });
    await other.page.evaluate(() => void (flashed.length = 0));
    await sql("UPDATE orders SET amount = 1982.5 WHERE id = 11982");
    await other.shows(11982, "€1,982.50");
    assert.deepEqual(await other.page.evaluate(() => flashed), []);
    await other.page.emulateMedia({ reducedMotion: null });
  });

  test("a transaction over three rows is never seen in part", async () => {
    const ids = [11_999, 11_994, 11_987];
    await window.page.evaluate(recordStates, ids);
    const times = thorough(120, 60);
    for (let n = 1; n <= times; n++) {
      await dashboard.transaction(ids.map((id) => `UPDATE orders SET amount = ${n} WHERE id = ${id}`));
      // Now and then the page catches up, so that it shows many of the states and not only the last.
      if (n % 4 === 0) await window.shows(ids[2]!, `€${n}.00`);
    }
    const states = await window.page.evaluate(() => recorded);
    const afterTransactions = states.slice(
      states.findIndex((state) => state.includes("€1.00") || state.includes("€4.00")),
    );
    assert.ok(new Set(afterTransactions.map(String)).size >= times / 4, "the page showed at least every fourth state");
    assert.deepEqual(
      afterTransactions.filter((state) => new Set(state).size > 1),
      [],
    );
  });

  test("the recording of states would notice a part", async () => {
    const ids = [11_979, 11_978, 11_977];
    await window.page.evaluate(recordStates, ids);
    for (const id of ids) {
      await sql("UPDATE orders SET amount = 5 WHERE id = $1", [id]);
      await window.shows(id, "€5.00");
    }
    const states = await window.page.evaluate(() => recorded);
    assert.ok(states.some((state) => state.filter((amount) => amount === "€5.00").length === 1));
  });

  test("the select asks the server to write, and shows the row when it comes back", async () => {
    const id = 11_985;
    await sql("UPDATE orders SET status = 'paid' WHERE id = $1", [id]);
    await window.shows(id, "paid");
    const lock = await dashboard.db.pool.connect();
    await lock.query("BEGIN");
    await lock.query("SELECT FROM orders WHERE id = $1 FOR UPDATE", [id]);
    await window.page.getByLabel(`Status of order ${id}`).selectOption("packed");
    await window.row(id).locator(".status[data-pending=packed]").waitFor();
    assert.equal(await window.status(id), "Paid", "nobody has committed anything yet");
    await lock.query("COMMIT");
    lock.release();
    await window.row(id).and(window.page.locator("[data-status=packed]")).waitFor();
    await other.row(id).and(other.page.locator("[data-status=packed]")).waitFor();
    await window.row(id).locator("[data-pending]").waitFor({ state: "detached" });
    const { rows } = await sql("SELECT status FROM orders WHERE id = $1", [id]);
    assert.equal(rows[0].status, "packed");
  });

  test("the search finds what Postgres finds, and says so when it is nothing", async () => {
    const search = window.page.getByLabel("Search orders");
    const found = window.page.locator(".orders-head [role=status]");
    const { rows } = await sql(`
      SELECT count(*)::int AS orders FROM orders o JOIN customers c ON c.id = o.customer_id
      WHERE c.city = 'Bergen' AND EXISTS (SELECT FROM order_items i JOIN products p ON p.id = i.product_id WHERE i.order_id = o.id AND p.name LIKE '%mug%')`);
    await search.fill("bergen mug");
    await found.filter({ hasText: `${rows[0].orders} found` }).waitFor();
    await window.page.waitForFunction(() =>
      [...document.querySelectorAll(".order-customer")].every((cell) => cell.textContent.includes("Bergen")),
    );
    await search.fill("100%_such");
    await window.page.getByText("No order matches “100%_such”").waitFor();
    await window.page.getByRole("button", { name: "Show all orders" }).click();
    await window.row(11_999).waitFor();
    assert.equal(await search.inputValue(), "");
  });

  test("a status that is chosen shows its orders only, and follows them", async () => {
    const { rows } = await sql("SELECT id FROM orders WHERE status = 'cancelled' ORDER BY id DESC LIMIT 1");
    const id = rows[0].id as number;
    const total = window.page
      .getByRole("group", { name: "Orders by status" })
      .getByRole("button", { name: "Cancelled" });
    await total.click();
    await window.page.waitForFunction(() =>
      [...document.querySelectorAll("[data-order-id]")].every((row) => row.getAttribute("data-status") === "cancelled"),
    );
    await window.row(id).waitFor();
    await sql("UPDATE orders SET status = 'paid' WHERE id = $1", [id]);
    await window.row(id).waitFor({ state: "detached" });
    await total.click();
    await window.row(11_999).waitFor();
  });

  test("the traffic switch moves in every window, and so do the orders", async () => {
    const newest = await window.page.locator("[data-order-id]").first().getAttribute("data-order-id");
    await window.page.getByRole("switch").click();
    await other.page.locator("[role=switch][aria-checked=true]").waitFor();
    await window.page.waitForFunction(
      (id) => document.querySelector("[data-order-id]")?.getAttribute("data-order-id") !== id,
      newest,
    );
    await other.page.getByRole("switch").click();
    await window.page.locator("[role=switch][aria-checked=false]").waitFor();
  });

  test("an announcement leaves by itself", async () => {
    for (const each of [window, other]) await each.page.locator(".toast").first().waitFor({ state: "detached" });
  });

  test("when all is quiet the totals are those of Postgres", async () => {
    const { rows } = await sql("SELECT pg_current_wal_lsn()::text AS position");
    await window.page.evaluate((position) => walcast.awaitPosition(position), rows[0].position as string);
    const totals = await sql("SELECT status, count(*)::int AS orders FROM orders GROUP BY status");
    const expected = Object.fromEntries(
      totals.rows.map(({ status, orders }) => [status, orders.toLocaleString("en-GB")]),
    );
    const shown = await window.page.evaluate(() =>
      Object.fromEntries(
        [...document.querySelectorAll<HTMLElement>(".total")].map((total) => [
          total.dataset["status"],
          total.querySelector(".total-count")!.textContent,
        ]),
      ),
    );
    assert.deepEqual(shown, expected);
  });

  test("Ctrl+Alt+W opens an inspector that follows the client, for whoever has only a keyboard", async () => {
    const { page } = window;
    const inspector = page.locator("walcast-inspector");
    const search = page.getByLabel("Search orders");
    await search.focus();
    await page.keyboard.press("Control+Alt+KeyW");
    await inspector.locator("[role=tab][aria-selected=true]:focus", { hasText: "Shapes" }).waitFor();
    const { rows } = await sql("SELECT count(*)::int AS orders FROM orders");
    const orders = inspector.getByRole("row").filter({ has: page.getByRole("cell", { name: "orders", exact: true }) });
    await orders.filter({ hasText: rows[0].orders.toLocaleString("en-GB") }).waitFor();
    assert.match(await orders.innerText(), /ready/);
    await page.keyboard.press("ArrowRight");
    await inspector
      .getByRole("table", { name: "Live queries" })
      .getByText(/incremental|window|re-run/)
      .first()
      .waitFor();
    await page.keyboard.press("ArrowRight");
    await sql("UPDATE orders SET amount = 1975.5 WHERE id = 11975");
    await window.shows(11975, "€1,975.50");
    // The client may be further by now: positions come without rows, too.
    const position = await page.evaluate(
      () => walcast.inspect().lastTransactions.findLast(({ tables }) => tables.length > 0)!.position,
    );
    const changes = inspector.getByRole("table", { name: "Transactions" }).getByRole("row", { name: "orders" });
    await changes.first().filter({ hasText: position }).waitFor();
    await page.keyboard.press("End");
    await inspector.getByRole("table", { name: "Status" }).getByText("live").first().waitFor();
    await page.keyboard.press("Escape");
    await inspector.waitFor({ state: "hidden" });
    assert.equal(await search.evaluate((input) => input === document.activeElement), true);
  });

  test("neither window complained about anything", () => {
    assert.deepEqual(window.complaints, []);
    assert.deepEqual(other.complaints, []);
  });

  // Last, because a browser notes every socket that cannot be opened as an error in the console.
  test("a network that is cut for a minute of writes: exactly what was missed arrives, and no row is loaded again", async () => {
    const { page } = other;
    const ids = [11_991, 11_992];
    const status = (): Promise<string> => page.evaluate(() => walcast.status);
    // From here on a second passes in the page when one has passed, or when we say so.
    await page.clock.install();
    await page.reload();
    await other.row(ids[1]!).waitFor();
    await until(async () => (await status()) === "live");
    await page.evaluate(recordChanges);
    const before = await page.evaluate(() => walcast.inspect());
    const snapshots = await dashboard.metric("walcast_snapshots_total");
    dashboard.cutNetwork();
    const amounts = Array.from({ length: 60 }, (_, n) => n + 1);
    for (const n of amounts) {
      await dashboard.transaction(ids.map((id) => `UPDATE orders SET amount = ${n} WHERE id = ${id}`));
      await page.clock.runFor(1_000);
    }
    // Nobody has told the page: it has heard nothing for too long, has asked, and nobody answered.
    assert.match(await status(), /^(offline|connecting)$/);
    const { lastError } = await page.evaluate(() => walcast.inspect());
    assert.equal(lastError?.code, "connection_lost");
    dashboard.mendNetwork();
    let seconds = 0;
    await until(async () => {
      const found = await status();
      if (found === "offline") seconds++;
      if (found === "offline") await page.clock.runFor(1_000);
      return found === "live";
    });
    assert.ok(seconds <= longestWaitS, `it was back after ${seconds} s`);
    await other.shows(ids[1]!, "€60.00");
    assert.deepEqual(
      await page.evaluate(() => changes),
      amounts.flatMap((n) => ids.map((id) => [id, `${n}.00`])),
    );
    const { refetches, resumes } = await page.evaluate(() => walcast.inspect());
    assert.deepEqual([refetches, resumes], [before.refetches, before.resumes + 1]);
    assert.equal(await dashboard.metric("walcast_snapshots_total"), snapshots);
  });

  test("without its engine the page says offline, stays readable, and recovers what it missed", async () => {
    await dashboard.stopEngine();
    await window.page.locator(".connection[data-status=offline], .connection[data-status=connecting]").waitFor();
    await window.row(11_999).waitFor();
    const before = await window.status(11_970);
    await window.page.getByLabel("Status of order 11970").selectOption(before === "Packed" ? "shipped" : "packed");
    await window.page.getByText("The shop's server cannot be reached.").waitFor();
    assert.equal(await window.status(11_970), before);
    await sql("UPDATE orders SET amount = 1970.25 WHERE id = 11970");
    await dashboard.startEngine();
    await window.page.locator(".connection[data-status=live]").waitFor();
    await window.shows(11_970, "€1,970.25");
  });

  test("who may not see the orders any more is told so, and is shown no row, by a page that is opened anew neither", async () => {
    const { page } = window;
    await dashboard.stopEngine();
    await dashboard.startEngine({ tables: { ...readable.tables, orders: { read: () => false } } });
    for (const isAnew of [false, true]) {
      if (isAnew) await page.reload();
      const said = page.getByRole("alert", { name: "You may not see this shop" });
      await said.getByText("sync public.orders: the table's read rule refuses this client").waitFor();
      assert.equal(await page.locator("[data-order-id], .total, [role=progressbar]").count(), 0);
      assert.deepEqual(await page.evaluate(() => walcast.query("SELECT * FROM orders").catch(() => [])), []);
    }
  });

  test("who is not let in is told so as well", async () => {
    const { page } = window;
    await dashboard.stopEngine();
    await dashboard.startEngine({ auth: () => undefined });
    await page.reload();
    await page.getByRole("alert", { name: "You may not see this shop" }).waitFor();
    assert.equal(await page.locator("[data-order-id], .total, [role=progressbar]").count(), 0);
  });
});

// In the page.
declare const flashed: string[];
declare const recorded: string[][];
declare const changes: [id: number, amount: string][];
declare const walcast: Client;

/** What of the table can be clicked on and lies under a notice. */
function coveredControls(): (string | null)[] {
  const notices = [...document.querySelectorAll(".toast")].map((toast) => toast.getBoundingClientRect());
  const controls = [...document.querySelectorAll<HTMLElement>(".orders :is(select, input, button)")];
  const covered = controls.filter((control) => {
    const { left, right, top, bottom } = control.getBoundingClientRect();
    return notices.some((n) => n.left < right && left < n.right && n.top < bottom && top < n.bottom);
  });
  return covered.map((control) => control.getAttribute("aria-label") ?? control.textContent);
}

/** Every change of an order, as it comes. */
async function recordChanges(): Promise<void> {
  const seen: [number, string][] = [];
  Object.assign(globalThis, { changes: seen });
  const channel = walcast.channel<{ id: number; amount: string }>("orders");
  await channel.on("*", ({ row }) => row && seen.push([row.id, row.amount])).subscribe().ready;
}

/** Notes the amounts of three rows after every change of the document, and in every frame that is painted. */
function recordStates(ids: readonly number[]): void {
  const states: (string | undefined)[][] = [];
  Object.assign(globalThis, { recorded: states });
  const look = () => {
    const state = ids.map((id) => document.querySelector(`[data-order-id="${id}"] .order-amount`)?.textContent);
    if (String(state) !== String(states.at(-1))) states.push(state);
  };
  const everyFrame = () => {
    look();
    requestAnimationFrame(everyFrame);
  };
  new MutationObserver(look).observe(document.body, {
    subtree: true,
    childList: true,
    characterData: true,
    attributes: true,
  });
  everyFrame();
}
