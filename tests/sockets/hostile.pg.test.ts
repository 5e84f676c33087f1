/**
 * What strangers may try. Each attempt gets its answer, the engine goes on, a client that minds its own business goes on
 * getting its changes, and nothing that was told or written down holds what is nobody's business.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { SignJWT, UnsecuredJWT } from "jose";
import { resolveConfig, type WalcastConfig } from "../../engine/config.ts";
import { jwt, sql } from "../../engine/index.ts";
import type { ShapeRequest } from "../../engine/protocol.ts";
import { mayConnect } from "../../engine/sockets/visitor.ts";
import { RawClient, rowsOf } from "./raw-client.ts";
import { type Running, running } from "./running.ts";
import { until } from "../support/until.ts";

const secret = "s3cr3t-key-of-thirty-two-characters";
const inAnHour = Math.floor(Date.now() / 1000) + 3600;
const signed = (claims: Record<string, unknown>, key = secret): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(key));
const token = (sub: string): Promise<string> => signed({ sub, exp: inAnHour });

const messageBytes = 300_000;
const perUser = 3;
const perAddress = 12;
const shapes = 20;
const perSecond = 5;

describe("hostile input", () => {
  let server: Running;
  let witness: RawClient;
  let last = 100;
  /** Everything that anybody was told. */
  const told: string[] = [];
  const attackers: RawClient[] = [];

  before(async () => {
    server = await running(
      {
        auth: jwt({ secret }),
        tables: {
          orders: {
            read: ({ claims }) => sql`tenant = ${claims["sub"]}`,
            columns: ["id", "tenant", "name", "salary", "tags"],
          },
        },
        origins: ["https://shop.example"],
        tokenCookie: "session",
        limits: {
          messageBytes,
          connectionsPerAddress: perAddress,
          connectionsPerUser: perUser,
          shapesPerConnection: shapes,
          subscribesPerSecond: perSecond,
          whereBytesPerConnection: 70_000,
          comparisonsPerConnection: 500,
          whereMsPerMinute: 100,
        },
      },
      `create table orders (id int primary key, tenant text, name text, salary int, tags text[], hidden_note text default 's3cr3t-hidden');
       insert into orders values (1, 'ada', 'ours', 1), (2, 'bob', 's3cr3t-theirs', 100000), (3, 'mallory', 'mine', 100001);
       create table secrets (id int primary key, v text); insert into secrets values (1, 's3cr3t-table');`,
    );
    witness = await server.greeted(await token("ada"));
    await witness.load(1, { table: "orders" });
  });
  afterEach(() => Promise.all(attackers.splice(0).map((client) => client.close())));
  after(() => server.close());

  /** It is still served. */
  async function goesOn(): Promise<void> {
    await server.transaction(`insert into orders values (${++last}, 'ada', 'ours', 1)`);
    assert.deepEqual((await witness.commit(1)).operations, [
      { kind: "insert", row: [String(last), "ada", "ours", "1", null] },
    ]);
    assert.equal(server.engine.health().status, "live");
  }

  async function attacker(headers: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    const client = new RawClient(server.engine.url, undefined, headers);
    attackers.push(client);
    await once(client.socket, "open");
    return client;
  }

  async function greeted(sub = "mallory"): Promise<RawClient> {
    const client = await attacker();
    await client.greet(await token(sub));
    return client;
  }

  async function done(...clients: RawClient[]): Promise<void> {
    for (const client of clients) {
      for (const one of client.received) if ("control" in one) told.push(JSON.stringify(one.control));
      await client.close();
    }
    await goesOn();
  }

  // ── Ways in ────────────────────────────────────────────────────────────────────────────────────────────────────────

  const upgrade = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" };
  const paths = [
    "/v1//sync",
    "/v1/%73ync",
    "/v1/sync/",
    "//v1/sync",
    "/v1/./sync",
    "/v1/x/../sync",
    "/V1/SYNC",
    "/v1/sync%00",
  ];
  for (const path of paths) {
    test(`${path} is no way in`, async () => {
      const headers = { ...upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==" };
      const sent = request({ port: new URL(server.engine.url).port, path, agent: false, headers });
      sent.end();
      const [response] = (await Promise.race([once(sent, "response"), once(sent, "upgrade")])) as [
        import("node:http").IncomingMessage,
      ];
      response.destroy();
      assert.equal(response.statusCode, 404);
      await goesOn();
    });
  }

  test("a page of another site is refused, with a cookie of ours or without", async () => {
    for (const headers of [
      { Origin: "https://evil.example" },
      { Origin: "https://shop.example.evil.example" },
      { Origin: "null" },
    ]) {
      const client = new RawClient(server.engine.url, undefined, {
        ...headers,
        Cookie: `session=${await token("ada")}`,
      });
      const { status, body } = await client.refusedUpgrade();
      assert.deepEqual([status, (JSON.parse(body) as { code: string }).code], [403, "forbidden"]);
      told.push(body);
    }
    await goesOn();
  });

  test("a page of ours is let in by its cookie, and a token of its own comes first", async () => {
    const headers = { Origin: "https://shop.example", Cookie: `theme=dark; session=${await token("mallory")}` };
    const client = await attacker(headers);
    await client.greet();
    assert.deepEqual(rowsOf((await client.load(1, { table: "orders", columns: ["id"] })).lines), [["3"]]);
    const other = await attacker(headers);
    await other.greet(await token("bob"));
    assert.deepEqual(rowsOf((await other.load(1, { table: "orders", columns: ["id"] })).lines), [["2"]]);
    const program = await attacker({ Authorization: `Bearer ${await token("bob")}` });
    await program.greet();
    assert.deepEqual(rowsOf((await program.load(1, { table: "orders", columns: ["id"] })).lines), [["2"]]);
    const without = await attacker({ Origin: "https://shop.example" });
    without.send({ kind: "hello" });
    assert.deepEqual(await without.closed, { code: 4401, reason: "unauthenticated" });
    await done(client, other, program, without);
  });

  test("a request that never ends keeps nobody out", async () => {
    const sockets = Array.from({ length: 50 }, () => connect(Number(new URL(server.engine.url).port), "127.0.0.1"));
    for (const socket of sockets) {
      socket.on("error", () => {});
      socket.write("GET /v1/sync HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    }
    await goesOn();
    for (const socket of sockets) socket.destroy();
  });

  test("one address has so many connections, and one more when it lets go of one", async () => {
    const mine: RawClient[] = [];
    for (let i = server.engine.stats().connections; i < perAddress; i++) mine.push(await attacker());
    const { status, body } = await new RawClient(server.engine.url).refusedUpgrade();
    assert.deepEqual([status, (JSON.parse(body) as { code: string }).code], [503, "too_many"]);
    assert.match(body, /connectionsPerAddress/);
    await done(...mine);
    await until(() => server.engine.stats().connections <= 1);
    await done(await greeted());
  });

  test("one address opens so many connections a minute, closed or not, others are not in the way, and it may again", async (t) => {
    const connectsPerMinute = 60;
    const door = await running({ tables: "all", limits: { connectsPerMinute }, addressHeader: "x-real-ip" }, "");
    t.after(() => door.close());
    const opened = async (address: string): Promise<RawClient | undefined> => {
      const client = new RawClient(door.engine.url, undefined, { "X-Real-IP": address });
      const refused = client.refusedUpgrade();
      const open = once(client.socket, "open").then(
        () => undefined,
        () => refused,
      );
      const answer = await Promise.race([refused, open]);
      if (!answer) return client;
      const { code, hint } = JSON.parse(answer.body) as { code: string; hint: string };
      assert.deepEqual([answer.status, code, hint], [429, "too_fast", "raise limits.connectsPerMinute"]);
      return undefined;
    };
    const beganAt = performance.now();
    let count = 0;
    for (
      let client = await opened("192.0.2.1");
      client && count < 2 * connectsPerMinute;
      client = await opened("192.0.2.1")
    ) {
      count++;
      await client.close();
    }
    const passed = Math.ceil((performance.now() - beganAt) / 1_000);
    assert(connectsPerMinute <= count && count <= connectsPerMinute + passed, `${count} in ${passed} s`);
    await (await opened("192.0.2.2"))!.close();
    let again: RawClient | undefined;
    while (!again) again = await opened("192.0.2.1");
    await again.close();
  });

  test("one user has so many connections, by whichever token, and others are not in the way", async () => {
    const crowd: RawClient[] = [];
    for (let i = 0; i < perUser; i++) {
      crowd.push(await attacker());
      await crowd[i]!.greet(await signed({ sub: "crowd", exp: inAnHour + i }));
    }
    const late = await attacker();
    late.send({ kind: "hello", token: await token("crowd") });
    assert.deepEqual(await late.closed, { code: 4429, reason: "too_many" });
    const renamed = await greeted();
    renamed.send({ kind: "authenticate", token: await token("crowd") });
    assert.deepEqual(await renamed.closed, { code: 4429, reason: "too_many" });
    // Whoever becomes somebody else makes room.
    crowd[0]!.send({ kind: "authenticate", token: await token("mallory") });
    await crowd[0]!.control("authenticated");
    const next = await attacker();
    await next.greet(await token("crowd"));
    await done(...crowd, late, renamed, next);
  });

  const hello = async (claims: Record<string, unknown>, key?: string): Promise<string> =>
    JSON.stringify({ kind: "hello", token: await signed(claims, key) });
  const greetings: readonly (readonly [
    what: string,
    message: () => Promise<string | Buffer>,
    close: number,
    code: string,
  ])[] = [
    [
      "a token with alg none",
      async () => JSON.stringify({ kind: "hello", token: new UnsecuredJWT({ sub: "ada", exp: inAnHour }).encode() }),
      4401,
      "unauthenticated",
    ],
    [
      "a token that is signed with another secret",
      () => hello({ sub: "ada", exp: inAnHour }, "x".repeat(40)),
      4401,
      "unauthenticated",
    ],
    ["a token whose expiry is text", () => hello({ sub: "ada", exp: "9999999999" }), 4401, "unauthenticated"],
    ["a token without an expiry", () => hello({ sub: "ada" }), 4401, "unauthenticated"],
    ["a token that has expired", () => hello({ sub: "ada", exp: 1 }), 4401, "token_expired"],
    [
      "a token that is an object",
      async () => '{"kind":"hello","token":{"__proto__":{"sub":"ada"}}}',
      4400,
      "malformed_message",
    ],
    [
      "JSON that lies 100,000 deep",
      async () => `{"kind":"hello","x":${"[".repeat(100_000)}`,
      4400,
      "malformed_message",
    ],
    ["objects that lie 30,000 deep", async () => '{"a":'.repeat(30_000), 4400, "malformed_message"],
    [
      "60,000 objects side by side",
      async () => `{"kind":"hello","x":[${"{},".repeat(60_000)}1]}`,
      4400,
      "malformed_message",
    ],
    ["a kind that every object has", async () => '{"kind":"__proto__"}', 4400, "malformed_message"],
    ["a kind that every object inherits", async () => '{"__proto__":{"kind":"hello"}}', 4400, "malformed_message"],
    ["a message above the limit", async () => " ".repeat(messageBytes + 1), 4413, "too_large"],
    ["bytes that are no text", async () => Buffer.from([0xff, 0xfe]), 4400, "malformed_message"],
    ["nothing at all", async () => "", 4400, "malformed_message"],
  ];
  for (const [what, message, code, reason] of greetings) {
    test(`${what} ends its own connection`, async () => {
      const client = await attacker();
      client.send(await message());
      assert.equal((await client.control("error")).error.code, reason);
      assert.deepEqual(await client.closed, { code, reason });
      await done(client);
    });
  }

  test("16 MB in one frame, and a frame that says it is compressed, are cut off without being read", async () => {
    const large = await greeted();
    large.send(Buffer.alloc(16 << 20, "x").toString());
    assert.equal((await large.closed).code, 1006);
    const deflated = await attacker();
    // FIN and RSV1, text, masked by zeros.
    const raw = (deflated.socket as unknown as { _socket: import("node:net").Socket })._socket;
    raw.write(Buffer.concat([Buffer.from([0xc1, 0x80 | 100, 0, 0, 0, 0]), Buffer.alloc(100)]));
    assert.equal((await deflated.closed).code, 1006);
    await done(large, deflated);
  });

  // ── Subscriptions ──────────────────────────────────────────────────────────────────────────────────────────────────

  const table = "orders";
  const long = "x".repeat(150_000);
  const subscriptions: readonly (readonly [what: string, shape: ShapeRequest, code: string])[] = [
    ["a second statement in where", { table, where: "id = 1; drop table orders" }, "where_syntax"],
    ["a parenthesis that closes ours", { table, where: "id = 1) or (true" }, "where_syntax"],
    ["a comment that swallows ours", { table, where: "id = 1) --" }, "where_syntax"],
    ["a query in where", { table, where: "id in (select id from secrets)" }, "where_unsupported"],
    ["a UNION in where", { table, where: "true union select v from secrets" }, "where_unsupported"],
    ["a function that sleeps", { table, where: "pg_sleep(10) is null" }, "where_unsupported"],
    ["a function that reads files", { table, where: "pg_read_file('/etc/passwd') <> ''" }, "where_unsupported"],
    [
      "a function that tells settings",
      { table, where: "current_setting('data_directory') <> ''" },
      "where_unsupported",
    ],
    ["a column that is hidden", { table, where: "hidden_note = 's3cr'" }, "unknown_column"],
    ["a whole row", { table, where: "orders is not null" }, "unknown_column"],
    ["every column of a row", { table, where: "orders.* is not null" }, "unknown_column"],
    ["a column that every table has", { table, where: "tableoid = 1" }, "unknown_column"],
    ["SQL as a parameter", { table, where: "id = $1", params: ["1 or true"] }, "where_type"],
    ["an object as a parameter", { table, where: "id = $1", params: [{ __proto__: 1 }] }, "where_params"],
    ["a zero byte in a parameter", { table, where: "name = $1", params: ["\0"] }, "where_params"],
    ["a zero byte in where", { table, where: "name = '\0'" }, "where_syntax"],
    ["half a character in where", { table, where: "name = '\ud800'" }, "where_syntax"],
    ["SQL as a column", { table, columns: ["id", 'id", (select v from secrets) as "x'] }, "unknown_column"],
    ["__proto__ as a column", { table, columns: ["id", "__proto__"] }, "unknown_column"],
    ["__proto__ in where", { table, where: "__proto__ = 1" }, "unknown_column"],
    ["constructor in where", { table, where: '"constructor" is null' }, "unknown_column"],
    ["__proto__ as a table", { table: "__proto__" }, "unknown_table"],
    ["constructor as a table", { table: "constructor" }, "unknown_table"],
    ["SQL as a table", { table: "orders; drop table orders" }, "unknown_table"],
    ["SQL in a quoted table", { table: '"orders"" where true --"' }, "unknown_table"],
    ["a catalog", { table: "pg_catalog.pg_authid" }, "unknown_table"],
    ["a table that is not served", { table: "secrets" }, "unknown_table"],
    ["our own tables", { table: "walcast.schema_changes" }, "unknown_table"],
    [
      "14,000 operands",
      {
        table,
        where: Array.from({ length: 7_000 }, () => "1=id").join(" or "),
      },
      "where_unsupported",
    ],
    ["a where that is too long", { table, where: `name = '${"x".repeat(70_000)}'` }, "too_large"],
    [
      "parameters that are too long",
      { table, where: "id = any($1)", params: [Array.from({ length: 20_000 }, (_, i) => i)] },
      "too_large",
    ],
    ["50,000 ORs", { table, where: `1${" or 1".repeat(50_000)}` }, "too_large"],
    ["as many ORs as fit", { table, where: `true${" or true".repeat(8_000)}` }, "where_unsupported"],
    [
      "more comparisons than a condition may have",
      { table, where: "id + 1 = any($1)", params: [Array.from({ length: 1_001 }, (_, i) => i)] },
      "where_unsupported",
    ],
    ["10,000 parentheses", { table, where: `${"(".repeat(10_000)}true${")".repeat(10_000)}` }, "where_unsupported"],
    [
      "more values than a list may have",
      { table, where: "id = any($1)", params: [Array.from({ length: 10_001 }, () => 1)] },
      "where_unsupported",
    ],
    ["a table's name as long as a message", { table: long }, "unknown_table"],
    ["a quoted table's name as long as a message", { table: `"${'""'.repeat(40_000)}"` }, "unknown_table"],
    ["a column's name as long as a message", { table, columns: ["id", long] }, "unknown_column"],
  ];
  for (const [what, shape, code] of subscriptions) {
    test(`${what} is refused, and its connection goes on`, async () => {
      const client = await greeted();
      client.subscribe(1, shape);
      const error = await client.refused(1);
      assert.equal(error.code, code, error.message);
      assert.ok(JSON.stringify(error).length < 3_000, "an answer is short, whatever was asked");
      assert.deepEqual(rowsOf((await client.load(2, { table, columns: ["id"] })).lines), [["3"]]);
      await done(client);
    });
  }

  test("a condition that would fail for others' rows learns nothing of them, first or later", async () => {
    const client = await greeted();
    const { lines } = await client.load(1, { table, columns: ["id"], where: "1 / (salary - 100000) = 1" });
    assert.deepEqual(rowsOf(lines), [["3"]]);
    await server.transaction("update orders set salary = 100000, name = 's3cr3t-theirs' where id = 2");
    await goesOn();
    await server.transaction("insert into orders values (4, 'mallory', 'mine', 100001)");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["4"] }]);
    await server.transaction("delete from orders where id = 4");
    await done(client);
  });

  test("a condition that is long and allowed is served as a short one is", async () => {
    const client = await greeted();
    const where = `id in (${Array.from({ length: 3_000 }, (_, i) => i).join()})`;
    const loaded = await client.load(1, { table, columns: ["id"], where });
    assert.deepEqual(rowsOf(loaded.lines), [["3"]]);
    await server.transaction("insert into orders values (4, 'mallory', 'mine', 1), (4000, 'mallory', 'mine', 1)");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["4"] }]);
    client.send({ kind: "unsubscribe", id: 1 });
    await client.control("unsubscribed");
    await server.transaction("delete from orders where id in (4, 4000)");
    await done(client);
  });

  const many = (length: number, by: string, part: (i: number) => string): string =>
    Array.from({ length }, (_, i) => part(i)).join(by);
  for (const [what, limit, where] of [
    ["long", "whereBytesPerConnection", (n) => `id in (${many(9_000, ",", (i) => String(n + i))})`],
    ["asked of every change", "comparisonsPerConnection", (n) => many(150, " or ", (i) => `tags @> '{${n + i}}'`)],
  ] satisfies [string, string, (n: number) => string][]) {
    test(`one connection has so many conditions that are ${what}`, async () => {
      // Who has not had anything read.
      const client = await greeted(limit);
      const shape = (n: number): ShapeRequest => ({ table, columns: ["id"], where: where(n) });
      await client.load(1, shape(1));
      client.subscribe(2, shape(2));
      const error = await client.refused(2);
      assert.equal(error.code, "too_many");
      assert.match(error.hint!, new RegExp(limit));
      client.send({ kind: "unsubscribe", id: 1 });
      await client.control("unsubscribed");
      await client.load(3, shape(2));
      await done(client);
    });
  }

  test("who has much read has a share of the engine's time, on all connections together, and others wait for none of it", async () => {
    const crowd: RawClient[] = [];
    for (let i = 0; i < perUser; i++) {
      crowd.push(await greeted("hoarder"));
      for (let id = 1; id <= shapes; id++)
        crowd[i]!.subscribe(id, {
          table,
          where: `id in (${many(9_000, ",", (n) => String(n + id))}) or nothing = ${i}`,
        });
    }
    const waiting = (what: string): Promise<number> => server.metric(`walcast_conditions_waiting{for="${what}"}`);
    await until(async () => (await waiting("share")) > 0);
    assert.equal((await crowd[0]!.refused(1)).code, "unknown_column");
    const where = `id in (${many(1_000, ",", (i) => `9${i}`)})`;
    assert.deepEqual(rowsOf((await witness.load(2, { table, columns: ["id"], where })).lines), []);
    witness.send({ kind: "unsubscribe", id: 2 });
    await witness.control("unsubscribed");
    // What nobody waits for any more is not read.
    const last = crowd.pop()!;
    for (let id = 1; id <= shapes; id++) last.send({ kind: "unsubscribe", id });
    await done(...crowd);
    await until(async () => (await waiting("share")) + (await waiting("turn")) === 0);
    await done(last);
  });

  test("text that looks like SQL is text", async () => {
    const client = await greeted();
    for (const [i, text] of [
      "'; drop table orders; --",
      "\\'; drop table orders; --",
      "$1",
      "E'\\x27'",
      "%s",
    ].entries())
      assert.deepEqual((await client.load(i + 1, { table, where: "name = $1", params: [text] })).lines, []);
    await done(client);
  });

  test("another's shape, at another's position, is not gone on with: what is one's own is loaded", async () => {
    const bob = await attacker();
    await bob.greet(await token("bob"));
    const theirs = await bob.load(1, { table });
    const client = await attacker();
    await client.greet(await token("mallory"), bob.left);
    client.claim(1, { table }, theirs.table.identity);
    client.send({ kind: "resume" });
    const resync = await client.control("resync");
    assert.deepEqual([resync.cause.code, resync.purge], ["access_changed", true]);
    assert.deepEqual(
      rowsOf((await client.joined(1)).lines).map(([id]) => id),
      ["3"],
    );
    for (const one of client.received) assert.ok(!JSON.stringify(one, plain).includes("s3cr3t"));
    await bob.close();
    await done(client);
  });

  test("10,000 subscriptions at once are answered one by one: so many, and the rest refused", async () => {
    const client = await greeted();
    for (let id = 1; id <= 10_000; id++)
      client.subscribe(id, { table, columns: ["id"], where: "id > $1", params: [id] });
    const codes = new Set<string>();
    for (let id = shapes + 1; id <= 10_000; id++) codes.add((await client.refused(id)).code);
    assert.deepEqual(codes, new Set(["too_many", "too_fast"]));
    await done(client);
  });

  test("who goes on asking and never reads is closed, and costs no more", async () => {
    const client = await greeted();
    const raw = (client.socket as unknown as { _socket: import("node:net").Socket })._socket;
    raw.pause();
    for (let id = 1; id <= 60_000 && client.socket.readyState === client.socket.OPEN; id++) {
      client.subscribe(id, { table: "nowhere" });
      if (id % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await goesOn();
    await until(() => server.engine.stats().connections <= 1);
    await done(client);
  });

  test("nothing of it is in what anybody was told, in the log or in the metrics", async () => {
    const metrics = await (await fetch(`${server.engine.url}/metrics`)).text();
    const health = await (await fetch(`${server.engine.url}/health`)).text();
    assert.ok(told.length > 100);
    const written = [...server.logged, metrics, health];
    // As every token here begins: less of it could also be part of a shape's identity.
    for (const text of [...told, ...written]) assert.doesNotMatch(text, /s3cr3t|passwd: |eyJhbGciOi/);
    for (const code of ["forbidden", "too_many", "too_fast", "unauthenticated", "too_large", "where_syntax"])
      assert.match(metrics, new RegExp(`^walcast_refusals_total\\{code="${code}"\\} [1-9]`, "m"));
    assert.match(metrics, /^walcast_invariant_breaches_total\{invariant="[a-z_]+"\} 0$/m);
    assert.doesNotMatch(metrics, /^walcast_invariant_breaches_total\{.*\} [1-9]/m);
    const { rows } = await server.db.query("select count(*)::int as count from secrets");
    assert.deepEqual(rows, [{ count: 1 }]);
  });
});

const plain = (_: string, value: unknown): unknown =>
  typeof value === "bigint"
    ? String(value)
    : value instanceof Uint8Array
      ? Buffer.from(value).toString("latin1")
      : value;

const visitors: readonly (readonly [what: string, config: WalcastConfig, origin: string | undefined, may: boolean])[] =
  [
    ["a program", { tables: "all" }, undefined, true],
    ["a page of this machine, where everything is readable", { tables: "all" }, "http://localhost:4437", true],
    ["a page of this machine's address", { tables: "all" }, "http://[::1]:4437", true],
    ["any other page, where everything is readable", { tables: "all" }, "https://evil.example", false],
    ["a page that calls itself local", { tables: "all" }, "https://localhost.evil.example", false],
    ["a page without an origin, where everything is readable", { tables: "all" }, "null", false],
    ["any page, where tables have rules", { tables: {} }, "https://any.example", true],
    ["a page that is named", { tables: {}, origins: ["https://a.example"] }, "https://a.example", true],
    [
      "another port of a page that is named",
      { tables: {}, origins: ["https://a.example"] },
      "https://a.example:8443",
      false,
    ],
    ["any other page, where everybody may say anything", { topics: "all" }, "https://evil.example", false],
    ["any page, where any is named", { tables: "all", origins: ["*"] }, "https://any.example", true],
  ];
for (const [what, given, origin, may] of visitors) {
  test(`${what} ${may ? "may" : "may not"} connect`, () => {
    const config = resolveConfig({ databaseUrl: "postgresql://localhost/shop", ...given });
    assert.equal(mayConnect({ origin }, config), may);
  });
}
