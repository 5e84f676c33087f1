/** Who may see what: deny by default, read rules over verified claims, columns that stay out of sight. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { SignJWT } from "jose";
import { jwt } from "../../engine/authenticate.ts";
import { sql } from "../../engine/sql.ts";
import { RawClient, rowsOf } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

const secret = "a secret for tests only, of 32 bytes or more";
const key = new TextEncoder().encode(secret);

function token(sub: string | undefined, lifeSeconds = 3_600): Promise<string> {
  const claims = new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime(Math.floor(Date.now() / 1000) + lifeSeconds);
  return (sub === undefined ? claims : claims.setSubject(sub)).sign(key);
}

const schema = `
  create table orders (id int primary key, customer_id text not null, status text not null, secret int);
  insert into orders values (1, 'ada', 'new', 11), (2, 'bob', 'new', 22), (3, 'ada', 'paid', 33);
  create table hidden (id int primary key);
  create table closed (id int primary key);
  create table "My Schema" (id int primary key);
  create table shares (id int primary key, customer_id text not null, amount int not null, parts int not null);
  insert into shares values (1, 'ada', 10, 2), (2, 'bob', 10, 0);
  create table ratios (id int primary key, level int not null);
  insert into ratios values (1, 10);
`;

describe("a client with a token", () => {
  let server: Running;
  before(async () => {
    const orders = {
      read: (auth: { claims: Readonly<Record<string, unknown>> }) => sql`customer_id = ${auth.claims["sub"]}`,
      columns: ["id", "customer_id", "status"],
    };
    server = await running(
      {
        auth: jwt({ secret }),
        tables: {
          orders,
          closed: { read: () => false },
          gone: { read: true },
          '"My Schema"': { read: true },
          shares: { read: orders.read },
          ratios: { read: () => sql`100 / level > 1` },
        },
      },
      schema,
    );
  });
  after(() => server.close());

  test("sees the rows that its claims allow, first and live", async () => {
    const client = await server.greeted(await token("ada"));
    const { lines, table } = await client.load(1, { table: "orders" });
    assert.deepEqual(
      rowsOf(lines).map(([id]) => id),
      ["1", "3"],
    );
    assert.deepEqual(
      table.columns.map((column) => column.name),
      ["id", "customer_id", "status"],
    );
    await server.transaction(
      "insert into orders values (4, 'bob', 'new', 44)",
      "insert into orders values (5, 'ada', 'new', 55)",
    );
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["5", "ada", "new"] }]);
    await client.close();
  });

  test("is told that a row left when it is another one's now, and nothing of where it went", async () => {
    const client = await server.greeted(await token("ada"));
    await client.load(1, { table: "orders" });
    await server.transaction("insert into orders values (6, 'ada', 'new', 66)");
    await client.commit(1);
    await server.transaction("update orders set customer_id = 'bob' where id = 6");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "delete", key: ["6"] }]);
    await client.close();
  });

  test("cannot widen its rule with a predicate of its own", async () => {
    const client = await server.greeted(await token("ada"));
    const { lines } = await client.load(1, { table: "orders", where: "customer_id = 'bob' or true" });
    assert.deepEqual(
      rowsOf(lines).filter(([, customer]) => customer !== "ada"),
      [],
    );
    await client.close();
  });

  test("finds a column that it may not read exactly as absent as one that does not exist", async () => {
    const client = await server.greeted(await token("ada"));
    const attempts = (name: string) => [
      { table: "orders", columns: ["id", name] },
      { table: "orders", where: `${name} = 1` },
      { table: "orders", where: `${name} = 'not a number'` },
      { table: "orders", where: `${name} IS NULL` },
    ];
    const answers: string[][] = [];
    let id = 0;
    for (const name of ["secret", "absent"]) {
      const told: string[] = [];
      for (const shape of attempts(name)) {
        client.subscribe(++id, shape);
        const error = await client.refused(id);
        assert.equal(error.code, "unknown_column");
        told.push(JSON.stringify(error).replaceAll(name, "?"));
      }
      answers.push(told);
    }
    assert.deepEqual(answers[0], answers[1]);
    await client.close();
  });

  test("finds a table that is not served exactly as absent as one that does not exist", async () => {
    const client = await server.greeted(await token("ada"));
    const told: string[] = [];
    for (const [i, name] of [
      "hidden",
      "absent",
      "gone",
      "pg_class",
      "pg_catalog.pg_class",
      "walcast.schema_changes",
      "MY SCHEMA",
    ].entries()) {
      client.subscribe(i + 1, { table: name });
      const error = await client.refused(i + 1);
      assert.equal(error.code, "unknown_table", name);
      told.push(JSON.stringify(error).replaceAll(name, "?"));
    }
    assert.equal(told[0], told[1]);
    assert.equal(told[0], told[2]);
    await client.close();
  });

  test("is refused where the rule says no, and where the claim that the rule reads is missing", async () => {
    const client = await server.greeted(await token(undefined));
    client.subscribe(1, { table: "closed" });
    assert.equal((await client.refused(1)).code, "forbidden");
    client.subscribe(2, { table: "orders" });
    assert.equal((await client.refused(2)).code, "forbidden");
    assert.deepEqual((await client.load(3, { table: '"My Schema"' })).lines, []);
    await client.close();
  });

  test("loses a subscription whose condition fails for a row that it may read, and no other", async () => {
    const shape = { table: "shares", where: "amount / parts > 1" };
    const client = await server.greeted(await token("ada"));
    const { lines, table } = await client.load(1, shape);
    assert.deepEqual(lines, ["1\tada\t10\t2"]);
    await client.load(2, { table: "shares" });
    await server.transaction(
      "insert into shares values (3, 'bob', 10, 0)",
      "update shares set amount = 11 where id = 1",
    );
    assert.equal((await client.commit(1)).operations.length, 1);
    const { left } = client;

    await server.transaction("insert into shares values (4, 'ada', 10, 0)");
    const live = await client.refused(1);
    assert.equal(live.code, "where_failed");
    assert.match(live.message, /division by zero.*\(id\) = \(4\)/);
    assert.deepEqual((await client.commit(2)).operations, [{ kind: "insert", row: ["4", "ada", "10", "0"] }]);
    client.subscribe(3, shape);
    const first = await client.refused(3);
    assert.equal(first.code, "where_failed");
    assert.match(first.message, /division by zero/);

    const later = await server.greeted(await token("ada"), left);
    later.claim(1, shape, table.identity);
    later.send({ kind: "resume" });
    assert.deepEqual(await later.refused(1), live);
    assert.equal(
      server.logged.some((line) => line.includes("(4)")),
      false,
    );
    await Promise.all([client.close(), later.close()]);
  });

  test("learns nothing of a row for which its rule fails", async () => {
    const client = await server.greeted(await token("ada"));
    assert.equal((await client.load(1, { table: "ratios" })).lines.length, 1);
    await client.load(2, { table: "ratios", where: "level / id > 1" });
    await server.transaction("insert into ratios values (77, 0)");
    for (const id of [1, 2]) {
      const error = await client.refused(id);
      assert.equal(error.code, "where_failed");
      assert.doesNotMatch(error.message, /77|division/);
    }
    client.subscribe(3, { table: "ratios" });
    const first = await client.refused(3);
    assert.equal(first.code, "where_failed");
    assert.doesNotMatch(first.message, /division/);
    await client.close();
  });

  test("that is missing, wrong or expired is closed with 4401", async () => {
    const wrongs: readonly (readonly [string | undefined, string])[] = [
      [undefined, "unauthenticated"],
      ["nonsense", "unauthenticated"],
      [`${await token("ada")}x`, "unauthenticated"],
      [await token("ada", -60), "token_expired"],
    ];
    for (const [given, code] of wrongs) {
      const client = new RawClient(server.engine.url);
      await once(client.socket, "open");
      client.send({ kind: "hello", token: given });
      assert.equal((await client.control("error")).error.code, code);
      assert.deepEqual(await client.closed, { code: 4401, reason: code });
    }
  });

  test("that ends while it is used is closed with 4401", async () => {
    const client = await server.greeted(await token("ada", 1));
    await client.load(1, { table: "orders" });
    assert.equal((await client.control("error")).error.code, "token_expired");
    assert.equal((await client.closed).code, 4401);
  });

  test("leaves no trace of itself or of a row in the engine's log", async () => {
    const given = await token("ada");
    const client = await server.greeted(given);
    await client.load(1, { table: "orders", where: "status = $1", params: ["a value for the log to keep out"] });
    await client.close();
    assert.equal(
      server.logged.some((line) => line.includes(given) || line.includes("a value for the log")),
      false,
    );
  });
});
