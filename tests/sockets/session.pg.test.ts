/** Greeting, refusing and ending a connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { until } from "../support/until.ts";
import { RawClient } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

describe("a connection", () => {
  let server: Running;
  let silent: RawClient;
  const messageBytes = 300_000;
  before(async () => {
    // Ample: on a busy machine those who do greet may be late by a second.
    const limits = { helloMs: 6_000, messageBytes, shapesPerConnection: 3, whereBytes: 200 };
    server = await running({ limits }, "create table items (id int primary key, name text)");
    // Its time passes while the others are tested.
    silent = new RawClient(server.engine.url);
  });
  after(() => server.close());

  test("that greets is welcomed with the history and the position", async () => {
    const client = new RawClient(server.engine.url);
    await once(client.socket, "open");
    assert.equal(client.socket.protocol, "walcast.v1");
    client.send({ kind: "hello" });
    const welcome = await client.control("welcome");
    assert.deepEqual(Object.keys(welcome), ["frame", "kind", "epoch", "position", "positionEveryMs", "messageBytes"]);
    assert.equal(welcome.frame, 1);
    assert.match(welcome.epoch, /^\d+:\d+:1$/);
    await client.close();
  });

  test("that asks whether anybody is there is answered", async () => {
    const client = new RawClient(server.engine.url);
    await once(client.socket, "open");
    client.send({ kind: "hello" });
    await client.control("welcome");
    client.send({ kind: "ping" });
    await client.control("pong");
    await client.close();
  });

  test("that offers only another subprotocol is refused before it is opened", async () => {
    const client = new RawClient(server.engine.url, "walcast.v9");
    const { status, body } = await client.refusedUpgrade();
    assert.equal(status, 400);
    assert.equal((JSON.parse(body) as { code: string }).code, "unsupported_protocol");
  });

  test("that offers several subprotocols gets ours", async () => {
    const client = new RawClient(server.engine.url, ["other", "walcast.v1"]);
    await once(client.socket, "open");
    assert.equal(client.socket.protocol, "walcast.v1");
    await client.close();
  });

  const hello = '{"kind":"hello"}';
  const refusals: readonly (readonly [string, readonly (string | Buffer)[], number, string])[] = [
    ["text that is not JSON", ["{"], 4400, "malformed_message"],
    ["JSON that is not an object", ["[1]"], 4400, "malformed_message"],
    ["a kind that there is not", ['{"kind":"greet"}'], 4400, "malformed_message"],
    [
      "a kind nested 100,000 deep",
      [`{"kind":${"[".repeat(100_000)}${"]".repeat(100_000)}}`],
      4400,
      "malformed_message",
    ],
    ["a binary message", [Buffer.from(hello)], 4400, "malformed_message"],
    ["a message before hello", ['{"kind":"unsubscribe","id":1}'], 4400, "hello_expected"],
    ["a second hello", [hello, hello], 4400, "malformed_message"],
    ["a position that is none", ['{"kind":"hello","epoch":"1:1:1","position":"here"}'], 4400, "malformed_message"],
    ["a message above the limit", [" ".repeat(messageBytes + 1)], 4413, "too_large"],
    ["an id of 0", [hello, '{"kind":"subscribe","id":0,"shape":{"table":"items"}}'], 4400, "malformed_message"],
    [
      "an id beyond 32 bits",
      [hello, '{"kind":"subscribe","id":4294967296,"shape":{"table":"items"}}'],
      4400,
      "malformed_message",
    ],
    ["an xid that is not a number", [hello, '{"kind":"await","id":1,"xid":"x"}'], 4400, "malformed_message"],
  ];
  for (const [what, messages, closeCode, code] of refusals) {
    test(`that sends ${what} is closed with ${closeCode}`, async () => {
      const client = new RawClient(server.engine.url);
      await once(client.socket, "open");
      for (const [i, message] of messages.entries()) {
        client.send(message);
        if (i === 0 && messages.length > 1) await client.control("welcome");
      }
      const { error } = await client.control("error");
      assert.equal(error.code, code);
      assert.match(error.message, /expected/);
      assert.deepEqual(await client.closed, { code: closeCode, reason: code });
    });
  }

  const shapeless: readonly (readonly [string, string])[] = [
    ["no shape", '{"kind":"subscribe","id":1}'],
    ["a shape without a table", '{"kind":"subscribe","id":1,"shape":{}}'],
    ["columns that are not text", '{"kind":"subscribe","id":1,"shape":{"table":"items","columns":[1]}}'],
    ["params that are not an array", '{"kind":"subscribe","id":1,"shape":{"table":"items","params":{"0":1}}}'],
    [
      "a load of which less than nothing came",
      '{"kind":"subscribe","id":1,"shape":{"table":"items"},"load":{"id":"a","frames":-1}}',
    ],
    ["changes that are not true or false", '{"kind":"subscribe","id":1,"shape":{"table":"items"},"changes":1}'],
  ];
  for (const [what, message] of shapeless) {
    test(`that subscribes with ${what} loses that subscription, and its id`, async () => {
      const client = await server.greeted();
      client.send(message);
      const error = await client.refused(1);
      assert.equal(error.code, "malformed_message");
      assert.match(error.message, /expected/);
      await client.load(2, { table: "items" });
      client.subscribe(1, { table: "items" });
      assert.equal((await client.closed).code, 4400);
    });
  }

  test("that sends far more than the limit is cut off without being read", async () => {
    const client = new RawClient(server.engine.url);
    await once(client.socket, "open");
    client.send(" ".repeat(messageBytes * 4 + 1));
    assert.equal((await client.closed).code, 1006);
  });

  test("that uses an id again is closed, however the first ended", async () => {
    const client = await server.greeted();
    await client.load(7, { table: "items" });
    client.send({ kind: "unsubscribe", id: 7 });
    await client.control("unsubscribed");
    client.subscribe(7, { table: "items" });
    assert.equal((await client.control("error")).error.code, "malformed_message");
    assert.equal((await client.closed).code, 4400);
  });

  test("that asks for too many subscriptions keeps those it has, and may replace one", async () => {
    const client = await server.greeted();
    for (const id of [1, 2, 3]) await client.load(id, { table: "items", where: "id > $1", params: [id] });
    client.subscribe(4, { table: "items" });
    assert.equal((await client.refused(4)).code, "too_many");
    client.send({ kind: "unsubscribe", id: 2 });
    await client.load(5, { table: "items" });
    await client.close();
  });

  test("that subscribes and unsubscribes again and again queues no more loads than it may have subscriptions", async (t) => {
    const client = await server.greeted();
    await client.load(1, { table: "items", where: "id > 1" });
    client.send({ kind: "unsubscribe", id: 1 });
    const holder = await server.db.pool.connect();
    t.after(() => holder.release(true));
    await holder.query("begin; lock table items in access exclusive mode");
    for (const id of [2, 3, 4]) {
      client.subscribe(id, { table: "items", where: "id > $1", params: [id] });
      client.send({ kind: "unsubscribe", id });
    }
    client.subscribe(5, { table: "items" });
    assert.equal((await client.refused(5)).code, "too_many");
    await holder.query("rollback");
    const wasRefused = (id: number): boolean =>
      client.received.some(
        (one) => "control" in one && one.control.kind === "error" && one.control.subscription === id,
      );
    for (let id = 6; wasRefused(id - 1); id++) {
      client.subscribe(id, { table: "items" });
      client.send({ kind: "unsubscribe", id });
      await client.control("unsubscribed", (message) => message.id === id);
    }
    await client.close();
  });

  test("a subscription that failed takes no place of the limit", async () => {
    const client = await server.greeted();
    for (const id of [1, 2, 3, 4, 5]) {
      client.subscribe(id, { table: "nowhere" });
      assert.equal((await client.refused(id)).code, "unknown_table");
    }
    await client.load(6, { table: "items" });
    await client.close();
  });

  test("a where or params that are too long are refused, and the connection goes on", async () => {
    const client = await server.greeted();
    client.subscribe(1, { table: "items", where: `name = '${"x".repeat(200)}'` });
    assert.equal((await client.refused(1)).code, "too_large");
    client.subscribe(2, { table: "items", where: "name = $1", params: ["é".repeat(100)] });
    assert.equal((await client.refused(2)).code, "too_large");
    await client.load(3, { table: "items", where: "name = $1", params: ["é".repeat(98)] });
    await client.close();
  });

  test("more than a hundred awaits at a time are refused one by one", async () => {
    const client = await server.greeted();
    for (let id = 1; id <= 101; id++) client.send({ kind: "await", id, position: "FFFFFFFF/FFFFFFFF" });
    assert.equal((await client.refused(101)).code, "too_many");
    await client.close();
  });

  test("whose new token a rule says nothing about in time is closed, and comes back", async (t) => {
    const small = await running(
      {
        limits: { helloMs: 1000 },
        auth: (token) => ({ claims: { sub: token } }),
        tables: { items: { read: ({ claims }) => claims["sub"] === "ada" || new Promise<boolean>(() => {}) } },
      },
      "create table items (id int primary key)",
    );
    t.after(() => small.close());
    const client = await small.greeted("ada");
    await client.load(1, { table: "items" });
    client.send({ kind: "authenticate", token: "bob" });
    assert.deepEqual(await client.closed, { code: 1001, reason: "auth_unavailable" });
    const hasty = await small.greeted("ada");
    hasty.send({ kind: "authenticate", token: "ada" });
    await hasty.control("authenticated");
    await hasty.load(1, { table: "items" });
    await hasty.close();
  });

  test("beyond the limit is refused with 503 until another one ends", async (t) => {
    const small = await running({ limits: { connections: 1 } });
    t.after(() => small.close());
    const first = await small.greeted();
    const { status, body } = await new RawClient(small.engine.url).refusedUpgrade();
    assert.equal(status, 503);
    assert.equal((JSON.parse(body) as { code: string }).code, "too_many");
    await first.close();
    await until(() => small.engine.stats().connections === 0);
    await (await small.greeted()).close();
  });

  test("that says nothing is closed with 4408", async () => {
    assert.equal((await silent.control("error")).error.code, "hello_timeout");
    assert.deepEqual(await silent.closed, { code: 4408, reason: "hello_timeout" });
  });
});
