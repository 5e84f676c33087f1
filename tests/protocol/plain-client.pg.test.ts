/** The page is complete: a client that was written from it alone shows what Postgres has. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { running } from "../sockets/running.ts";
import { PlainClient } from "./plain-client.mjs";

const schema = `
  create table items (id int, part text, amount numeric(12,2), note text, primary key (part, id));
  insert into items select g, 'p' || g % 7, g * 1.5, case g % 3 when 0 then null when 1 then 'a\\b' || chr(9) || chr(10) || g else repeat('é', 3000) end from generate_series(1, 3000) g;
  alter table items alter note set storage external`;

test("a client written from the page alone follows every kind of change", async (t) => {
  const server = await running({ limits: { frameBytes: 20_000 } }, schema);
  t.after(() => server.close());
  const url = server.engine.url.replace("http", "ws") + "/v1/sync";
  let client = new PlainClient(url);
  t.after(() => client.socket.close());
  await client.next((message) => message.kind === "welcome");

  const queries = new Map([
    [1, { where: undefined, sql: "true" }],
    [2, { where: "amount >= 1000 and part <> 'p3'", sql: "amount >= 1000 and part <> 'p3'" }],
  ]);
  const writes = [
    "insert into items select g, 'n', g, 'new' from generate_series(1, 500) g",
    "update items set amount = amount + 900 where id % 5 = 0",
    "update items set part = 'p3' where part = 'p4'; update items set id = id + 100000 where part = 'p1'",
    "delete from items where id % 11 = 0; insert into items values (1, 'again', 1, '\\N'); delete from items where part = 'again'",
    "alter table items add column extra text default 'x'",
    "update items set note = null where part = 'p2'",
    "alter table items drop column extra",
    "truncate items; insert into items select g, 'z', g * 10, repeat('z', 3000) from generate_series(1, 200) g",
    "update items set amount = 0 where id < 100",
  ];
  for (const [id, { where }] of queries)
    client.send({ kind: "subscribe", id, shape: { table: "items", ...(where ? { where } : {}) } });
  let awaits = 0;
  for (const write of writes) {
    const resynced = write.includes("drop column") ? [...queries.keys()].map((id) => joinAgain(client, id)) : [];
    const xid = await server.transaction(write);
    await Promise.all(resynced);
    const answered = client.next((message) => message.kind === "awaited");
    client.send({ kind: "await", id: ++awaits, xid });
    await answered;
    while (![...queries.keys()].every((id) => client.subscriptions.get(id)?.joined))
      await client.next(({ frame }) => frame === "join");
    for (const [id, { sql }] of queries) assert.deepEqual(shown(client, id), await inPostgres(server, sql), write);
  }

  client.socket.close();
  const missed = await server.transaction("update items set amount = amount + 7 where id > 50");
  const before = client;
  client = new PlainClient(url, before);
  await client.next((message) => message.kind === "welcome");
  for (const [id, { where }] of queries)
    client.claim(id, { table: "items", ...(where ? { where } : {}) }, before.subscriptions.get(id));
  client.send({ kind: "resume" });
  client.send({ kind: "await", id: 1, xid: missed });
  await client.next((message) => message.kind === "awaited");
  for (const [id, { sql }] of queries) assert.deepEqual(shown(client, id), await inPostgres(server, sql), "resumed");
});

async function joinAgain(client: PlainClient, id: number): Promise<void> {
  await client.next((message) => message.kind === "resync" && message.id === id);
  while (!client.subscriptions.get(id)!.joined) await client.next(({ frame }) => frame === "join");
}

function shown(client: PlainClient, id: number): string[] {
  return [...client.subscriptions.get(id)!.rows.values()].map((row) => JSON.stringify(row)).sort();
}

async function inPostgres(server: Awaited<ReturnType<typeof running>>, where: string): Promise<string[]> {
  const { rows } = await server.db.pool.query<string[]>({
    text: `select * from items where ${where}`,
    rowMode: "array",
    types: { getTypeParser: () => (value: string) => value },
  });
  return rows.map((row) => JSON.stringify(row)).sort();
}
