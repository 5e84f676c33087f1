/** A client that does not take what it is sent costs a bounded amount of memory and then its connection, nobody else's. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Running, running } from "./running.ts";

const MiB = 1 << 20;

describe("a slow client", () => {
  let server: Running;
  const backlogBytesPerConnection = MiB;
  before(
    async () =>
      (server = await running(
        { limits: { backlogBytesPerConnection } },
        "create table items (id int primary key, v text)",
      )),
  );
  after(() => server.close());

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(`${server.engine.url}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)![1]);
  }

  test("is closed with 4429 once its budget is used, while others go on", async () => {
    const slow = await server.greeted();
    const quick = await server.greeted();
    await slow.load(1, { table: "items" });
    await quick.load(1, { table: "items" });
    slow.socket.pause();
    for (let id = 1; (await metric("walcast_slow_consumers_total")) === 0; id++) {
      assert.ok(id < 200, "the budget is reached");
      await quick.awaitXid(id, await server.transaction(`insert into items values (${id}, repeat('x', ${MiB}))`));
    }
    slow.socket.resume();
    assert.deepEqual(await slow.closed, { code: 4429, reason: "slow_consumer" });
    await quick.awaitXid(1_000, await server.transaction("truncate items"));
    await quick.close();
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
    assert.ok(bytes > 20 * backlogBytesPerConnection * 0.9);
    await slow.close();
    await quick.close();
  });
});
