/** Tables on their way into the stream: what is handed out under a name is the table that has it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pino } from "pino";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { Tables } from "../../engine/changes/tables.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

describe("a table", () => {
  let db: TestDatabase;
  let tables: Tables;
  before(async () => {
    db = await testDatabase({ after: () => {} });
    const log = pino({ level: "silent" });
    await prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot: db.name, log });
    tables = new Tables(db.pool, { publication: "walcast", slot: db.name, log });
  });
  after(async () => {
    await db.query("select pg_drop_replication_slot($1)", [db.name]);
    await db.drop();
  });

  test("that was given another's name is never handed out under its old one", async () => {
    await db.query("create table open_to_all (id int primary key); create table secret (id int primary key)");
    const open = await tables.get("public", "open_to_all", false);
    const secret = await tables.get("public", "secret", false);
    // Renamed behind our back: the stream has not told yet, so what was described is still kept.
    await db.query("alter table open_to_all rename to other; alter table secret rename to open_to_all");
    const found = await tables.get("public", "open_to_all", false);
    assert.deepEqual([found.oid, found.name], [secret.oid, "open_to_all"]);
    await assert.rejects(tables.get("public", "secret", false), { code: "unknown_table" });
    assert.equal((await tables.get("public", "other", false)).oid, open.oid);
  });
});
