/** Who may see what: deny by default, read rules over verified claims, columns that stay out of sight. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { SignJWT } from "jose";
import { jwt } from "../../engine/authenticate.ts";
import { sql } from "../../engine/sql.ts";
import type { ShapeRequest } from "../../engine/protocol.ts";
import { type LeftOff, RawClient, rowsOf } from "./raw-client.ts";
import { type Running, running } from "./running.ts";
import { until } from "../support/until.ts";

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
  create table notes (id int primary key, customer_id text);
  insert into notes values (1, 'ada'), (2, 'bob');
  create table files (id int primary key, readers text[] not null, details jsonb);
  alter table files alter column details set storage external;
  insert into files
    select id, case when id < 4 then '{ada,bob}'::text[] else '{bob}' end,
      jsonb_build_object('kind', case when id < 3 then 'text' else 'image' end, 'size', 1.50, 'body', repeat('x', 9000))
    from generate_series(1, 4) as id;
  create type band as enum ('canary-band');
  create table letters (id text primary key, customer_id text, body text, hidden text default 'canary-hidden', band band);
  create table parted (customer_id text, id text, body text, primary key (customer_id, id)) partition by list (customer_id);
  create table parted_ada partition of parted for values in ('ada');
  create table parted_rest partition of parted default;
  insert into letters values ('ours-1', 'ada', 'ours'), ('canary-1', 'bob', 'canary');
  insert into parted values ('ada', 'ours-1', 'ours'), ('canary-bob', 'canary-1', 'canary');
`;

/** Rights that tests give and take. */
const rights = { mayReadNews: true };
/** A rule was asked; it may answer. */
let asked = Promise.withResolvers<void>();
let answered = Promise.withResolvers<void>();

describe("a client with a token", () => {
  let server: Running;
  /** By tokens that end while the others are tested: their first one, and one that they gave later. */
  const fading: RawClient[] = [];
  before(async () => {
    const orders = {
      read: (auth: { claims: Readonly<Record<string, unknown>> }) => sql`customer_id = ${auth.claims["sub"]}`,
      columns: ["id", "customer_id", "status"],
    };
    const own = (auth: { claims: Readonly<Record<string, unknown>> }) => sql`customer_id = ${auth.claims["sub"]}`;
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
          notes: { read: ({ claims }) => (claims["sub"] === "root" ? true : own({ claims })) },
          news: { read: () => rights.mayReadNews },
          files: { read: ({ claims }) => sql`${claims["sub"]} = ANY(readers)`, columns: ["id", "readers", "details"] },
          letters: { read: own, columns: ["id", "customer_id", "body"] },
          parted: { read: own },
          slow: {
            read: async (auth) => {
              asked.resolve();
              if (auth.claims["sub"] === "ada") await answered.promise;
              return own(auth);
            },
          },
          broken: { read: sql`id = 1 and secret_column = 'x'` },
          failing: {
            read: () => {
              throw new TypeError("the secret of a rule");
            },
          },
          odd: { read: () => "true" as unknown as boolean },
          keyless: { read: sql`hidden = 'x'`, columns: ["id"], replicaIdentity: "keep" },
          partial: { read: true, columns: ["name"] },
        },
        limits: { largeTransactionBytes: 20_000 },
      },
      `${schema}
       create table news (id int primary key);
       create table slow (id int primary key, customer_id text); insert into slow values (1, 'ada'), (2, 'bob');
       create table broken (id int primary key); create table failing (id int primary key); create table odd (id int primary key);
       create table keyless (id int primary key, hidden text); create table partial (id int primary key, name text);`,
    );
    // Long enough for what they do first, also where the machine is busy: it is counted in whole seconds, from the last one on.
    const lifeSeconds = 5;
    fading.push(await server.greeted(await token("ada", lifeSeconds)), await server.greeted(await token("ada")));
    await fading[0]!.load(1, { table: "orders" });
    fading[1]!.send({ kind: "authenticate", token: await token("ada", lifeSeconds) });
    await fading[1]!.control("authenticated");
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

  test("is refused without Postgres where that happens a hundred times and more", async () => {
    const client = await server.greeted(await token("ada"));
    const refused = async (first: number, last: number): Promise<void> => {
      for (let id = first; id <= last; id++) client.subscribe(id, { table: "orders", where: "absent = 1" });
      assert.equal((await client.refused(last)).code, "unknown_column");
    };
    await client.load(1, { table: "orders" });
    await refused(2, 110);
    const holder = await server.db.pool.connect();
    try {
      // Whoever looks for a table by its name waits.
      await holder.query("begin; lock table pg_catalog.pg_inherits in access exclusive mode");
      await refused(111, 120);
    } finally {
      await holder.query("rollback");
      holder.release();
    }
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

  test("sees what its rule over an array and its condition over jsonb say, of values too that a change leaves out", async () => {
    const client = await server.greeted(await token("ada"));
    const where = `details @> $1 AND (details ->> 'size')::numeric < 2`;
    const { lines } = await client.load(1, { table: "files", where, params: ['{"kind": "text", "size": 1.5}'] });
    assert.deepEqual(
      lines.map((line) => line.split("\t", 2)),
      [
        ["1", "{ada,bob}"],
        ["2", "{ada,bob}"],
      ],
    );
    // Postgres does not send again what is stored beside the row.
    await server.transaction(
      "update files set readers = array_append(readers, 'cyn') where id = 1",
      "update files set readers = array_remove(readers, 'ada') where id = 2",
      "update files set readers = array_append(readers, 'ada') where id = 4",
      `update files set details = details || '{"kind": "text"}' where id = 3`,
    );
    const { operations } = await client.commit(1);
    assert.deepEqual(
      operations.map(({ kind }) => kind),
      ["update", "delete", "insert"],
    );
    const [, left, came] = operations;
    assert.deepEqual(left, { kind: "delete", key: ["2"] });
    assert(came?.kind === "insert" && came.row[0] === "3");
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
      assert.equal(error.code, "forbidden");
      assert.doesNotMatch(error.message, /77|division/);
    }
    client.subscribe(3, { table: "ratios" });
    const first = await client.refused(3);
    assert.equal(first.code, "forbidden");
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

  test("is refused where a rule fails or says something odd, and hears of nothing that the rule names", async () => {
    const client = await server.greeted(await token("ada"));
    const expected: readonly (readonly [string, string])[] = [
      ["broken", "forbidden"],
      ["failing", "forbidden"],
      ["odd", "forbidden"],
      ["keyless", "replica_identity_missing"],
      ["partial", "columns_without_key"],
    ];
    for (const [i, [table, code]] of expected.entries()) {
      client.subscribe(i + 1, { table });
      const error = await client.refused(i + 1);
      assert.equal(error.code, code, table);
      assert.doesNotMatch(JSON.stringify(error), /secret|hidden|\bid\b/, table);
    }
    assert.match(server.logged.join(""), /a read rule cannot be applied/);
    await client.close();
  });

  test("is told of no type that only a column out of its sight has", async () => {
    const client = await server.greeted(await token("ada"));
    assert.deepEqual((await client.load(1, { table: "letters" })).table.types, []);
    await client.close();
  });

  test("gives another token on the open connection: what it does not allow leaves at once, what it does comes, the rest stays", async () => {
    const client = await server.greeted(await token("ada"));
    const { lines } = await client.load(1, { table: "notes" });
    assert.deepEqual(rowsOf(lines), [["1", "ada"]]);
    await client.load(2, { table: "news" });
    await client.load(3, { table: "news", where: "id > 5" });
    client.send({ kind: "authenticate", token: await token("bob", 60) });
    const resync = await client.control("resync");
    assert.deepEqual([resync.id, resync.cause.code, resync.purge], [1, "access_changed", true]);
    const { expiresInMs } = await client.control("authenticated");
    assert.ok(expiresInMs! > 50_000 && expiresInMs! <= 60_000);
    assert.deepEqual(rowsOf((await client.joined(1)).lines), [["2", "bob"]]);
    await server.transaction("insert into notes values (3, 'ada'), (4, 'bob')", "insert into news values (1)");
    const { sections } = await client.frame((one) => one.kind === "commits");
    assert.deepEqual(new Set(sections.map(({ subscription }) => subscription)), new Set([1, 2]));
    const payload = Buffer.from(sections.find(({ subscription }) => subscription === 1)!.payload);
    assert.deepEqual([payload.includes("bob"), payload.includes("ada")], [true, false]);
    await client.close();
  });

  test("whose rights are gone with its next token is told so by each subscription", async (t) => {
    t.after(() => (rights.mayReadNews = true));
    const client = await server.greeted(await token("ada"));
    await client.load(1, { table: "news" });
    await client.load(2, { table: "notes" });
    rights.mayReadNews = false;
    client.send({ kind: "authenticate", token: await token("ada") });
    assert.equal((await client.refused(1)).code, "forbidden");
    await client.control("authenticated");
    await server.transaction("insert into news values (2)", "insert into notes values (5, 'ada')");
    const { sections } = await client.frame((one) => one.kind === "commits");
    assert.deepEqual(
      sections.map(({ subscription }) => subscription),
      [2],
    );
    await client.close();
  });

  test("changes its token while rows are on their way, and gets none by the old one", async (t) => {
    const holder = await server.db.pool.connect();
    t.after(() => holder.release(true));
    const client = await server.greeted(await token("ada"));
    // Described, and no further: the rows wait for the lock.
    await holder.query("begin; lock table notes in access exclusive mode");
    client.subscribe(1, { table: "notes" });
    client.send({ kind: "authenticate", token: await token("root") });
    await client.control("authenticated");
    await holder.query("rollback");
    const { lines } = await client.joined(1);
    assert.ok(rowsOf(lines).some(([, customer]) => customer === "bob"));
    client.send({ kind: "authenticate", token: await token("bob") });
    const narrowed = await client.joined(1);
    assert.ok(rowsOf(narrowed.lines).every(([, customer]) => customer === "bob"));
    await client.close();
  });

  test("changes its token while a changed table's rows are awaited, and what it shows leaves before they come", async (t) => {
    const [gate, holder] = [await server.db.pool.connect(), await server.db.pool.connect()];
    t.after(() => [gate, holder].forEach((one) => one.release(true)));
    const client = await server.greeted(await token("ada"));
    await client.load(1, { table: "notes" });
    // Whoever asks for the lock before the change is committed has it from then on, and nobody can read.
    await gate.query("begin; alter table notes alter column customer_id type varchar(50)");
    const locked = holder.query("begin; lock table notes in access exclusive mode");
    const waiting = "select from pg_locks where relation = 'notes'::regclass and not granted";
    await until(async () => (await server.db.pool.query(waiting)).rowCount! > 0);
    await gate.query("commit");
    await locked;
    assert.equal((await client.control("resync")).purge, undefined);
    client.send({ kind: "authenticate", token: await token("bob") });
    assert.equal((await client.control("resync")).purge, true);
    await client.control("authenticated");
    await holder.query("rollback");
    const { lines } = await client.joined(1);
    assert.ok(rowsOf(lines).every(([, customer]) => customer === "bob"));
    await client.close();
  });

  test("changes its token while a rule thinks, and gets nothing by the old one", async () => {
    const client = await server.greeted(await token("ada"));
    client.subscribe(1, { table: "slow" });
    await asked.promise;
    client.send({ kind: "authenticate", token: await token("bob") });
    await client.control("authenticated");
    answered.resolve();
    assert.deepEqual(rowsOf((await client.joined(1)).lines), [["2", "bob"]]);
    await client.close();
  });

  test("that follows another one is closed with 4401 where it does not hold, and with 4400 where one is still looked at", async () => {
    const refused = await server.greeted(await token("ada"));
    refused.send({ kind: "authenticate", token: "nonsense" });
    assert.deepEqual(await refused.closed, { code: 4401, reason: "unauthenticated" });
    const hasty = await server.greeted(await token("ada"));
    for (const next of [await token("ada"), await token("bob")]) hasty.send({ kind: "authenticate", token: next });
    assert.equal((await hasty.closed).code, 4400);
  });

  test("finds no byte of another's rows and of hidden columns on its wire, whatever happens to them", async () => {
    const { client, bytes } = await recording(await token("ada"));
    for (const [i, { shape, changes }] of requests.entries()) await client.load(i + 1, shape, changes);
    const { left } = client;
    const shapes = client.received.flatMap((one) =>
      "control" in one && one.control.kind === "described" ? [one.control.table.identity] : [],
    );
    const happenings = (table: string, seed: number): string[] => [
      `insert into ${table} (id, customer_id, body) values ('ours-a${seed}', 'ada', 'ours'), ('canary-a${seed}', 'canary-bob', 'canary')`,
      `update ${table} set body = 'canary2' where customer_id <> 'ada'`,
      `update ${table} set id = 'canary-b${seed}' where id = 'canary-a${seed}'`,
      // Out of sight with another key, and into it from one that was never seen.
      `update ${table} set customer_id = 'canary-bob', id = 'canary-c${seed}', body = 'canary' where id = 'ours-a${seed}'`,
      `update ${table} set customer_id = 'ada', id = 'ours-d${seed}', body = 'ours' where id = 'canary-b${seed}'`,
      `update ${table} set id = 'ours-e${seed}' where id = 'ours-d${seed}'`,
      `delete from ${table} where customer_id <> 'ada'`,
      `delete from ${table} where id = 'ours-e${seed}'`,
    ];
    const large = (table: string): string =>
      `insert into ${table} (id, customer_id, body) select v || '-many-' || g || '-' || random(), c, repeat(v, 20) from generate_series(1, 300) g, (values ('ours', 'ada'), ('canary', 'canary-bob')) as two (v, c)`;
    const everything = async (seed: number): Promise<string> => {
      for (const table of ["letters", "parted"]) {
        for (const statement of happenings(table, seed)) await server.transaction(statement);
        await server.transaction(...happenings(table, seed + 1));
        await server.transaction(large(table), `delete from ${table} where customer_id <> 'ada'`, large(table));
        await server.transaction(`truncate ${table}`, ...happenings(table, seed + 2));
      }
      await server.transaction("update letters set hidden = 'canary3'");
      return server.transaction(
        `alter table letters add column hidden_${seed} text default 'canary-default'`,
        large("letters"),
      );
    };
    await client.awaitXid(1, await everything(1));
    await server.engine.audit();
    await client.close();
    // Once more, from the log, for somebody who was away.
    const again = await recording(await token("ada"), left);
    shapes.forEach((identity, i) => again.client.claim(i + 1, requests[i]!.shape, identity, requests[i]!.changes));
    again.client.send({ kind: "resume" });
    await again.client.awaitXid(1, await everything(11));
    again.client.subscribe(9, { table: "letters", where: "hidden = 'x'" });
    await again.client.refused(9);
    await again.client.close();
    for (const wire of [bytes(), again.bytes()]) {
      assert.ok(wire.includes("ours-e1") || wire.includes("ours-many"));
      assert.equal(wire.indexOf("canary"), -1, around(wire, "canary"));
    }
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

  test("changes its token while a rule thinks, and what it shows from before leaves at once", async () => {
    asked = Promise.withResolvers();
    answered = Promise.withResolvers();
    const other = await server.greeted(await token("bob"));
    other.subscribe(1, { table: "slow" });
    const { load: id, table } = await other.control("described");
    await other.joined(1, table);
    await other.close();
    asked = Promise.withResolvers();
    const client = await server.greeted(await token("ada"));
    const load = { id: id!, frames: 1 };
    client.send({ kind: "subscribe", id: 1, shape: { table: "slow" }, load, shown: "rows of somebody" });
    await asked.promise;
    client.send({ kind: "authenticate", token: await token("bob") });
    assert.equal((await client.control("resync")).purge, true);
    await client.control("authenticated");
    answered.resolve();
    const again = await client.control("described");
    assert.deepEqual([again.load, again.continues], [id, undefined]);
    assert.deepEqual(rowsOf((await client.joined(1, table)).lines), [["2", "bob"]]);
    await client.close();
  });

  test("that ends while it is used is closed with 4401, the first and one that followed it", async () => {
    for (const client of fading) {
      assert.equal((await client.control("error")).error.code, "token_expired");
      assert.deepEqual(await client.closed, { code: 4401, reason: "token_expired" });
    }
  });

  /** A connection, and every byte that came on it. */
  async function recording(given: string, left?: LeftOff): Promise<{ client: RawClient; bytes(): Buffer }> {
    const client = new RawClient(server.engine.url);
    const chunks: Buffer[] = [];
    client.socket.on("upgrade", ({ socket }) => socket.on("data", (chunk: Buffer) => chunks.push(chunk)));
    await once(client.socket, "open");
    await client.greet(given, left);
    return { client, bytes: () => Buffer.concat(chunks) };
  }
});

const requests: readonly { shape: ShapeRequest; changes: boolean }[] = [
  { shape: { table: "letters" }, changes: false },
  { shape: { table: "letters" }, changes: true },
  { shape: { table: "letters", where: "body <> 'x'", columns: ["id", "body"] }, changes: false },
  { shape: { table: "parted" }, changes: false },
  { shape: { table: "parted" }, changes: true },
];

function around(bytes: Buffer, text: string): string {
  const at = bytes.indexOf(text);
  return at < 0 ? "" : bytes.toString("latin1", Math.max(0, at - 200), at + 100);
}
