/** The made-up shop, and the arithmetic of the chart over it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { axisTicks, withoutGaps } from "../../examples/order-dashboard/page/chart.ts";
import { makeShop } from "../../examples/order-dashboard/server/seed.ts";
import { statuses } from "../../examples/order-dashboard/statuses.ts";

const until = new Date("2026-03-14T18:00:00Z");

test("the same seed and instant make the same shop, another seed another one", () => {
  assert.deepEqual(makeShop(1, until), makeShop(1, until));
  assert.notDeepEqual(makeShop(1, until).orders, makeShop(2, until).orders);
});

test("who ordered what does not depend on when the shop is made", () => {
  const [now, later] = [makeShop(1, until), makeShop(1, new Date("2026-03-15T03:12:00Z"))];
  assert.deepEqual(now.order_items, later.order_items);
  assert.deepEqual(
    now.orders.map(({ customer_id, amount }) => [customer_id, amount]),
    later.orders.map(({ customer_id, amount }) => [customer_id, amount]),
  );
});

test("there are 12,000 orders, numbered as they came in, of every status", () => {
  const { orders } = makeShop(1, until);
  assert.equal(orders.length, 12_000);
  assert.deepEqual(
    orders.map(({ id }) => id),
    orders.map((_, i) => i + 1),
  );
  assert.deepEqual(
    orders.map(({ created_at }) => created_at),
    orders.map(({ created_at }) => created_at).sort(),
  );
  assert.equal(orders.at(-1)!.created_at, until.toISOString());
  assert.deepEqual(new Set(orders.map(({ status }) => status)), new Set(statuses));
});

test("every order has items, and its amount is what they cost", () => {
  const { orders, order_items } = makeShop(1, until);
  const cents = new Map<number, number>();
  for (const { order_id, quantity, unit_price } of order_items)
    cents.set(order_id, (cents.get(order_id) ?? 0) + Math.round(quantity * unit_price * 100));
  assert.deepEqual(
    orders.filter(({ id, amount }) => cents.get(id) !== Math.round(amount * 100)),
    [],
  );
});

test("buckets without orders are filled in up to the newest", () => {
  const found = [
    { start: 60_000, revenue: 5, orders: 1 },
    { start: 240_000, revenue: 7, orders: 2 },
  ];
  const empty = { revenue: 0, orders: 0 };
  assert.deepEqual(withoutGaps(found, 60_000, 4), [
    found[0],
    { start: 120_000, ...empty },
    { start: 180_000, ...empty },
    found[1],
  ]);
});

for (const [largest, ticks] of [
  [0, [0, 2, 4, 6, 8, 10]],
  [97, [0, 20, 40, 60, 80, 100]],
  [1_180, [0, 250, 500, 750, 1_000, 1_250]],
  [42_000, [0, 10_000, 20_000, 30_000, 40_000, 50_000]],
] as const) {
  test(`an axis up to ${largest} has round numbers`, () => {
    assert.deepEqual(axisTicks(largest), ticks);
  });
}
