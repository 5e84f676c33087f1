/** The dashboard's own endpoint: what it writes, and what it refuses to. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { createApp } from "../../examples/order-dashboard/server/app.ts";
import { createShop } from "../../examples/order-dashboard/server/database.ts";
import { Traffic } from "../../examples/order-dashboard/server/traffic.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";

describe("the dashboard's endpoint", () => {
  let db: TestDatabase;
  let app: (request: Request) => Promise<Response>;

  before(async () => {
    db = await testDatabase();
    await createShop(db.pool);
    app = createApp(db.pool, new Traffic(db.pool));
  });

  const send = (method: string, path: string, body: unknown, contentType = "application/json") =>
    app(
      new Request(`http://localhost${path}`, {
        method,
        headers: { "content-type": contentType },
        ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      }),
    );

  test("the shop is made once", async () => {
    assert.equal(await createShop(db.pool), 0);
    const { rows } = await db.query("INSERT INTO orders (customer_id) VALUES (1) RETURNING id");
    assert.equal(rows[0].id, 12_001);
  });

  test("a status is written", async () => {
    const response = await send("PATCH", "/api/orders/7", { status: "cancelled" });
    assert.equal(response.status, 204);
    const { rows } = await db.query("SELECT status FROM orders WHERE id = 7");
    assert.equal(rows[0].status, "cancelled");
  });

  test("the report has the bestsellers, as they are at the moment", async () => {
    const report = async () => (await app(new Request("http://localhost/api/report"))).json();
    await db.query("UPDATE order_items SET quantity = 90000 WHERE order_id = 1 AND line = 1");
    const { rows } = await db.query(
      "SELECT name FROM products JOIN order_items ON product_id = id WHERE order_id = 1 AND line = 1",
    );
    const [first, ...rest] = (await report()) as { product: string; pieces: number }[];
    assert.equal(first!.product, rows[0].name);
    assert.ok(first!.pieces >= 90_000);
    assert.equal(rest.length, 4);
  });

  for (const [what, method, path, body, status, message] of [
    ["an unknown status", "PATCH", "/api/orders/7", { status: "lost" }, 400, /one of pending, paid/],
    ["a status of another type", "PATCH", "/api/orders/7", { status: ["paid"] }, 400, /one of pending, paid/],
    ["no status", "PATCH", "/api/orders/7", {}, 400, /one of pending, paid/],
    ["an order that is not there", "PATCH", "/api/orders/999999", { status: "paid" }, 404, /no order 999999/],
    ["an id that is no number", "PATCH", "/api/orders/7;drop", { status: "paid" }, 404, /no order/],
    ["an id no integer can hold", "PATCH", "/api/orders/4000000000", { status: "paid" }, 404, /no order/],
    ["another method", "PUT", "/api/orders/7", { status: "paid" }, 405, /PATCH/],
    ["no JSON", "PATCH", "/api/orders/7", "status=paid", 400, /not JSON/],
    ["JSON that is no object", "PATCH", "/api/orders/7", "null", 400, /object/],
    ["too much", "PATCH", "/api/orders/7", { status: "x".repeat(2_000) }, 413, /at most/],
    ["traffic neither on nor off", "POST", "/api/traffic", { on: "yes" }, 400, /true or false/],
    ["an order by another method", "PUT", "/api/orders", {}, 405, /POST/],
    ["a report by another method", "POST", "/api/report", {}, 405, /GET/],
    ["another address", "POST", "/api/customers", {}, 404, /nothing at this address/],
  ] as const) {
    test(`${what} is refused with a sentence`, async () => {
      const response = await send(method, path, body);
      assert.equal(response.status, status);
      assert.match(((await response.json()) as { message: string }).message, message);
    });
  }

  test("a form of another site's page is refused", async () => {
    const response = await send("POST", "/api/traffic", '{"on":true}', "text/plain");
    assert.equal(response.status, 415);
  });

  test("traffic changes orders until it is switched off, and says so in its row", async () => {
    const state = async () =>
      (
        await db.query(
          "SELECT running, (SELECT count(*) + sum(xmin::text::bigint) FROM orders) AS orders FROM simulation",
        )
      ).rows[0];
    const before = await state();
    assert.equal((await send("POST", "/api/traffic", { on: true })).status, 204);
    assert.equal((await state()).running, true);
    await until(async () => (await state()).orders !== before.orders);
    assert.equal((await send("POST", "/api/traffic", { on: false })).status, 204);
    const after = await state();
    assert.equal(after.running, false);
    assert.deepEqual(await state(), after);
  });
});
