/** No value, token or password gets into the log, at any level, whatever goes wrong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { jwt } from "../engine/index.ts";
import { createLogger } from "../engine/logger.ts";
import { RawClient } from "./sockets/raw-client.ts";
import { running } from "./sockets/running.ts";
import { testDatabase } from "./support/postgres.ts";

const secrets = ["s3cr3t-row", "s3cr3t-token", "s3cr3t-param", "s3cr3t-key-of-thirty-two-characters"];

test("what a hostile workload plants is not in the log, also at its most talkative", async (t) => {
  const [row, token, param, key] = secrets as [string, string, string, string];
  const server = await running(
    {
      auth: {
        verify: async (given) =>
          given === undefined ? { claims: {}, scopes: [] } : jwt({ secret: key }).verify(given),
      },
    },
    `create table items (id int primary key, v text unique, check (v <> 'refused'));
     create table other (id int primary key, v int)`,
  );
  t.after(() => server.close());
  const client = await server.greeted();
  await client.load(1, { table: "items" });
  await server.transaction(`insert into items values (1, '${row}')`);
  await client.commit(1);
  // Predicates that cannot be read, and a table that changes under its subscribers.
  for (const [id, where, params] of [
    [2, `v = '${param}' and`, []],
    [3, "id = $1", [param]],
    [4, `v ~ '${param}'`, []],
    [5, `nothing = '${param}'`, []],
  ] as const) {
    client.subscribe(id, { table: "items", where, params });
    await client.refused(id);
  }
  await server.transaction("alter table items rename column v to w");
  await client.control("resync");
  // A load that fails while it runs: Postgres names the value in its error.
  await server.db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'walcast%' and datname = current_database()",
  );
  // Tokens that are none, and messages that are none.
  for (const given of [token, `${token}.${token}.${token}`]) {
    const refused = new RawClient(server.engine.url);
    refused.socket.on("open", () => refused.send({ kind: "hello", token: given }));
    await refused.closed;
  }
  for (const message of [`{"kind":"${token}"}`, token, `{"kind":"hello","token":{"${token}":1}}`]) {
    const refused = new RawClient(server.engine.url);
    refused.socket.on("open", () => refused.send(message));
    await refused.closed;
  }
  await client.close();
  const said = server.logged.join("");
  assert.notEqual(said, "");
  const url = new URL(server.db.url);
  for (const secret of [...secrets, url.password]) assert.equal(said.includes(secret), false, secret);
});

test("what Postgres says about a value is written without it", async (t) => {
  const { query } = await testDatabase(t);
  await query("create table items (id int primary key); insert into items values (424242)");
  const lines: string[] = [];
  const log = createLogger("info", { write: (line) => void lines.push(line) });
  for (const statement of ["select 's3cr3t-row'::int", "insert into items values (424242)", "select 424242 / 0"]) {
    const error = await query(statement).then(
      () => assert.fail(),
      (rejected: Error) => rejected,
    );
    log.error({ err: new Error("a wrapped one", { cause: error }) }, "it failed");
  }
  assert.equal(lines.length, 3);
  for (const line of lines) {
    assert.doesNotMatch(line, /s3cr3t|424242|invalid input/);
    assert.match(line, /"code":"2[23]/);
  }
});
