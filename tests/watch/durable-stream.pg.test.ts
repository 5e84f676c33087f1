/** A shape as a read-only Durable Stream, to the protocol's own client and to bare requests. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createStateSchema, createStreamDB } from "@durable-streams/state/db";
import { cuttable } from "../client-sdk/cuttable.ts";
import { type Running, running } from "../sockets/running.ts";
import { until } from "../support/until.ts";
import { EventReader, type ReadEvent } from "./event-reader.ts";

interface Order {
  readonly id: string;
  readonly status: string;
}

const anything = {
  "~standard": { version: 1 as const, vendor: "test", validate: (value: unknown) => ({ value: value as Order }) },
};

describe("a durable stream", () => {
  let server: Running;
  before(async () => {
    const setup =
      "create table orders (id int primary key, status text); insert into orders values (1, 'new'), (2, 'new')";
    server = await running({ heartbeatMs: 500, tables: { orders: { read: true } } }, setup);
  });
  after(() => server.close());

  function streamDb(live: true | "long-poll" | "sse" = true, url = server.engine.url) {
    return createStreamDB({
      streamOptions: {
        url: `${url}/v1/stream/orders`,
        contentType: "application/json",
        warnOnHttp: false,
      },
      state: createStateSchema({ orders: { schema: anything, type: "orders", primaryKey: "id" } }),
      live,
    });
  }
  const shownOf = (db: ReturnType<typeof streamDb>): string =>
    db.collections.orders.toArray
      .map(({ id, status }) => `${id} ${status}`)
      .toSorted()
      .join();
  const read = (query: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${server.engine.url}/v1/stream/orders?${query}`, { headers });
  const offsetOf = (response: Response): string => response.headers.get("stream-next-offset")!;
  /** The next that comes, however often nothing does. */
  const polled = async (offset: string): Promise<Response> => {
    const response = await read(`offset=${offset}&live=long-poll`);
    return response.status === 204 ? polled(offsetOf(response)) : response;
  };
  const operations = async (response: Response): Promise<[string, string, string | undefined][]> => {
    const events = (await response.json()) as { key: string; value?: Order; headers: { operation: string } }[];
    return events.map(({ key, value, headers }) => [headers.operation, key, value?.status]);
  };

  test("the protocol's own client keeps a TanStack DB collection that follows every commit, whole", async (t) => {
    const db = streamDb();
    t.after(() => db.close());
    await db.preload();
    const { orders } = db.collections;
    const shown = (): string => shownOf(db);
    assert.equal(shown(), "1 new,2 new");
    const states = new Set<string>();
    orders.subscribeChanges(() => states.add(shown()));
    await server.transaction(
      "update orders set status = 'paid' where id = 1",
      "delete from orders where id = 2",
      "insert into orders values (3, 'new')",
    );
    await until(() => shown() === "1 paid,3 new");
    await server.transaction("update orders set id = 4 where id = 3");
    await until(() => shown() === "1 paid,4 new");
    assert.deepEqual([...states], ["1 paid,3 new", "1 paid,4 new"]);
    const xid = await server.transaction("delete from orders where id = 4", "insert into orders values (2, 'new')");
    await db.utils.awaitTxId(xid);
    assert.equal(shown(), "1 paid,2 new");
  });

  test("an offset is where to go on: what came since, waiting or not, nothing where nothing came", async () => {
    const first = await read("offset=-1");
    assert.deepEqual(
      [first.status, first.headers.get("content-type"), first.headers.get("stream-up-to-date")],
      [200, "application/json", "true"],
    );
    assert.deepEqual(
      (await operations(first)).toSorted(([, a], [, b]) => Number(a) - Number(b)),
      [
        ["insert", "1", "paid"],
        ["insert", "2", "new"],
      ],
    );
    const offset = offsetOf(first);
    assert.match(offset, /^[0-9a-f]{16}_\d{8}/);
    const waiting = polled(offset);
    await server.transaction("update orders set status = 'sent' where id = 1");
    const next = await waiting;
    assert.deepEqual(await operations(next), [["update", "1", "sent"]]);
    assert.ok(offsetOf(next) > offset);
    const again = await read(`offset=${offset}`);
    assert.deepEqual(await operations(again), [["update", "1", "sent"]]);
    const same = await read(`offset=${offset}`, { "if-none-match": again.headers.get("etag")! });
    assert.equal(same.status, 304);
    const nothing = await read(`offset=${offsetOf(next)}&live=long-poll`);
    assert.deepEqual([nothing.status, offsetOf(nothing)], [204, offsetOf(next)]);
  });

  test("over SSE data comes with where it leads", async () => {
    const offset = offsetOf(await read("offset=-1"));
    const reader = await EventReader.open(`${server.engine.url}/v1/stream/orders?offset=${offset}&live=sse`);
    assert.deepEqual(told(await reader.next()), ["control", true]);
    await server.transaction("update orders set status = 'back' where id = 1");
    const [data, control] = [await reader.next(), await reader.next()];
    assert.deepEqual([data.event, (data.data as { value: { status: string } }[])[0]!.value.status], ["data", "back"]);
    const { streamNextOffset } = control.data as { streamNextOffset: string };
    assert.ok(streamNextOffset > offset);
    assert.deepEqual(await operations(await read(`offset=${streamNextOffset}`)), []);
    reader.close();
    // What is not the end of it yet does not say so, as a reader may show what it has by then.
    for (const [query, operation] of [
      [`offset=${offset}`, "update"],
      ["offset=-1", "insert"],
    ] as const) {
      const later = await EventReader.open(`${server.engine.url}/v1/stream/orders?${query}&live=sse`);
      const first = await later.next();
      assert.equal((first.data as { headers: { operation: string } }[])[0]!.headers.operation, operation);
      assert.deepEqual(
        [told(await later.next()), told(await later.next())],
        [
          ["control", undefined],
          ["control", true],
        ],
      );
      later.close();
    }
  });

  test("whoever wants only what comes, or only where that is, is told no rows", async () => {
    const waiting = read("offset=now&live=long-poll");
    const now = await read("offset=now");
    assert.deepEqual(await operations(now), []);
    const head = await fetch(`${server.engine.url}/v1/stream/orders`, { method: "HEAD" });
    assert.deepEqual([head.status, head.headers.get("content-type"), await head.text()], [200, "application/json", ""]);
    assert.ok(offsetOf(head) >= offsetOf(now));
    assert.equal((await waiting).status, 204);
    const reader = await EventReader.open(`${server.engine.url}/v1/stream/orders?offset=now&live=sse`);
    assert.deepEqual(told(await reader.next()), ["control", true]);
    await server.transaction("update orders set status = 'now' where id = 1");
    const [update] = (await reader.next()).data as { headers: { operation: string } }[];
    assert.equal(update!.headers.operation, "update");
    reader.close();
    assert.deepEqual(await operations(await read(`offset=${offsetOf(head)}`)), [["update", "1", "now"]]);
  });

  for (const live of ["long-poll", "sse"] as const)
    test(`the protocol's own client goes on after its connection was lost, commit by commit, by ${live}`, async (t) => {
      await server.transaction("truncate orders", "insert into orders values (1, 'new'), (2, 'new')");
      const network = await cuttable(t, server.engine.url);
      const db = streamDb(live, network.url.replace("ws:", "http:"));
      t.after(() => db.close());
      await db.preload();
      const states = new Set<string>();
      db.collections.orders.subscribeChanges(() => states.add(shownOf(db)));
      await network.away(async () => {
        await server.transaction("delete from orders where id = 1", "insert into orders values (3, 'new')");
        await server.transaction("update orders set status = 'paid'");
      });
      await until(() => shownOf(db) === "2 paid,3 paid");
      assert.ok(!states.has(""), "rows that stay were there all the time");
    });

  for (const live of ["long-poll", "sse"] as const)
    test(`where the log cannot say which rows are gone the protocol's own client is told all the same, by ${live}`, async (t) => {
      const db = streamDb(live);
      t.after(() => db.close());
      await db.preload();
      const shown = (): string => shownOf(db);
      const states = new Set<string>();
      db.collections.orders.subscribeChanges(() => states.add(shown()));
      await server.transaction("truncate orders", "insert into orders values (1, 'new'), (5, 'new')");
      await until(() => shown() === "1 new,5 new");
      await server.transaction("alter table orders rename column status to was", "alter table orders add status text");
      await server.transaction("update orders set status = 'old' where id = 5", "delete from orders where id = 1");
      await until(() => shown() === "5 old");
      await server.transaction("alter table orders drop column was", "insert into orders values (2, 'new')");
      await until(() => shown() === "2 new,5 old");
      assert.ok(!states.has(""), "rows that stay were there all the time");
    });

  test("what the log does not reach back to is told as deletes, and inserts of all that there is", async () => {
    await server.transaction("truncate orders", "insert into orders values (1, 'new'), (2, 'new'), (3, 'new')");
    const offset = offsetOf(await read("offset=-1"));
    await server.transaction("delete from orders where id = 2", "update orders set status = 'paid' where id = 3");
    const tooOld = offset.replace(/^[0-9a-f]{16}/, "0000000000000001");
    const resynced = await read(`offset=${tooOld}&live=long-poll`);
    const told = await operations(resynced);
    assert.deepEqual(
      told.filter(([, key]) => ["1", "2", "3"].includes(key)).toSorted(([, a], [, b]) => Number(a) - Number(b)),
      [
        ["insert", "1", "new"],
        ["delete", "2", undefined],
        ["insert", "3", "paid"],
      ],
    );
    assert.ok(
      told.slice(0, -2).every(([operation]) => operation === "delete"),
      "of rows of earlier readers it may be told too",
    );
    assert.deepEqual(await operations(await read(`offset=${offsetOf(resynced)}`)), []);
  });

  test("whoever was told by an engine that has ended is known again once all rows were told at a later position", async () => {
    const now = offsetOf(await read("offset=now"));
    await server.transaction("insert into orders values (7, 'new')");
    const unknown = now.replace(/\..*/, ".elsewhere");
    const told = await read(`offset=${unknown}`);
    assert.match(offsetOf(told), /\.elsewhere$/);
    await read("offset=-1");
    await server.transaction("update orders set status = 'paid' where id = 7");
    const next = await read(`offset=${offsetOf(told)}`);
    assert.deepEqual(await operations(next), [["update", "7", "paid"]]);
    assert.equal(offsetOf(next).replace(/.*\./, ""), now.replace(/.*\./, ""));
  });

  test("what cannot be gone on from is gone, and what may not be read is refused", async () => {
    const offset = offsetOf(await read("offset=-1"));
    const others = offsetOf(await read(`offset=-1&where=${encodeURIComponent("status = 'paid'")}`));
    await server.transaction("alter table orders alter column status type varchar");
    await until(async () => (await read(`offset=${offset.replace(/\..*/, "")}`)).status === 410);
    assert.equal((await read(`offset=${offset.replace(/\..*/, ".elsewhere")}`)).status, 410);
    assert.equal((await read(`offset=${others}`)).status, 410, "keys are for those alone who asked for the same rows");
    assert.equal((await read(`offset=${offset}`)).status, 200);
    assert.equal((await read("offset=nowhere")).status, 400);
    assert.equal((await fetch(`${server.engine.url}/v1/stream/secrets?offset=-1`)).status, 404);
    assert.equal((await fetch(`${server.engine.url}/v1/stream/orders?offset=-1`, { method: "POST" })).status, 400);
    await until(() => server.engine.stats().connections === 0 && server.engine.stats().shapes === 0);
  });
});

function told({ event, data }: ReadEvent): [event: string, upToDate: unknown] {
  return [event, (data as { upToDate?: boolean }).upToDate];
}
