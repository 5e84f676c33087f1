import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { createEngine } from "../../engine/main.ts";
import { parseLsn } from "../../engine/protocol.ts";
import { testDatabase } from "../support/postgres.ts";
import { RawClient } from "../support/raw-client.ts";

test("a row that enters a shape by its key brings values along that were stored out of line and did not travel", async (t) => {
  const releases: (() => Promise<void>)[] = [];
  t.after(async () => {
    for (const release of releases.reverse()) await release();
  });
  const db = await testDatabase({ after: (release) => void releases.push(release) });
  await db.query("create table notes (id int primary key, note text)");
  await db.query("alter table notes alter note set storage external");
  await db.query("insert into notes values (150, repeat('long ', 2000)), (1, 'short')");
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-toast-"));
  releases.push(() => rm(dataDir, { recursive: true, force: true }));
  const tables = { notes: { read: true, replicaIdentity: "keep" } } as const;
  const engine = await createEngine(
    { databaseUrl: db.url, port: 0, slot: db.name, tables, dataDir },
    pino({ level: "silent" }),
  );
  releases.push(() => engine.close());
  const client = await RawClient.connect(engine.url);
  const shape = client.subscribe({ table: "notes", where: "id < 100" });
  await shape.ready();

  await db.query("update notes set id = 50 where id = 150");
  const { rows } = await db.query("select pg_current_wal_insert_lsn()::text as lsn");
  await client.reach(parseLsn(rows[0].lsn));
  await shape.ready();
  assert.equal(shape.value("50", "note"), "long ".repeat(2000));
  await client.drop();
});
