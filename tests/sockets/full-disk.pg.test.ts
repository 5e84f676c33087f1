/**
 * The disk that holds the data directory is full: a real one, of 32 MB. Nothing is acknowledged that is not durable, clients
 * keep what they have and get what Postgres sends, it is said what is wrong, and once there is room everything goes on.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import type { Health } from "../../engine/sockets/http.ts";
import { EngineProcess } from "../simulation/engine.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { transaction } from "../support/transaction.ts";
import { until } from "../support/until.ts";
import { RawClient, shownCommits } from "./raw-client.ts";

const items = { table: "items" };
const KiB = 1024;

const mounted = await SmallDisk.mount(32);
if (mounted instanceof SmallDisk) describe("on a full disk", () => onFullDisk(mounted));
else test("on a full disk", { skip: mounted }, () => {});

function onFullDisk(disk: SmallDisk): void {
  let db: TestDatabase;
  let engine: EngineProcess;
  let client: RawClient;
  let identity: string;
  let id = 0;
  /** Everything that was committed, in order, and what the client was shown on connections that are over. */
  const written: bigint[] = [];
  const shown: bigint[] = [];

  before(async () => {
    db = await testDatabase();
    await db.query("create table items (id int primary key, v text); alter table items alter v set storage external");
    // The engine says three times as often how far it is.
    await db.query(`alter database ${db.name} set wal_sender_timeout = '2s'`);
    const limits = { largeTransactionBytes: 1024 * KiB };
    const config = {
      databaseUrl: db.url,
      port: 0,
      tables: "all" as const,
      slot: db.name,
      dataDir: disk.directory,
      limits,
    };
    engine = new EngineProcess("the engine", config);
    await engine.start();
    client = await RawClient.greeted(engine.urls[0]!);
    ({ identity } = (await client.load(1, items)).table);
  });
  after(async () => {
    await client.close();
    await engine.close();
    await disk.unmount();
  });

  /** Rows as one transaction. */
  async function write(bytes: number, rows = 1): Promise<string> {
    const values = `select ${id} + i, repeat('x', ${bytes}) from generate_series(1, ${rows}) i`;
    id += rows;
    const xid = await transaction(db, [`insert into items ${values}`]);
    written.push(BigInt(xid));
    return xid;
  }

  async function health(): Promise<Health> {
    return (await (await fetch(`${engine.urls[0]}/health`)).json()) as Health;
  }

  async function writeUntilRefused(): Promise<void> {
    for (let i = 0; !/write the log: ENOSPC.*make room/.test((await health()).reason ?? ""); i++) {
      assert.ok(i < 100, "the disk gets full");
      await write(64 * KiB);
    }
  }

  async function confirmed(): Promise<Lsn> {
    const { rows } = await db.query(
      "select confirmed_flush_lsn::text as at from pg_replication_slots where slot_name = $1",
      [db.name],
    );
    return parseLsn((rows[0] as { at: string }).at);
  }

  /** Where the slot is once the engine has said again how far it is. */
  async function confirmedAgain(): Promise<Lsn> {
    const said = `select reply_time from pg_stat_replication join pg_replication_slots on active_pid = pid where slot_name = '${db.name}'`;
    const { rows } = await db.query("select clock_timestamp()::text as now");
    const { now } = rows[0] as { now: string };
    await until(async () => (await db.query(`${said} and reply_time > '${now}'`)).rows.length > 0);
    return confirmed();
  }

  function untilConfirmed(position: Lsn): Promise<void> {
    return until(async () => (await confirmed()) >= position);
  }

  /** How often the engine's own log says that it failed to do this. */
  function said(doing: string): number {
    return engine.said.split(`"message":"${doing}`).length - 1;
  }

  const showsAll = (): void =>
    assert.deepEqual([...shown, ...shownCommits(client, 1).map((commit) => commit.xid)], written);

  test("what fits into what is left is written, although no room can be made ahead", async () => {
    await disk.fill(200 * KiB);
    while ((await disk.freeBytes()) > 0) await client.awaitXid(2, await write(32 * KiB));
    await client.awaitXid(2, await write(1));
    await untilConfirmed(client.position);
    assert.deepEqual([(await health()).reason, said("write the log: ENOSPC")], [undefined, 0]);
  });

  test("nothing more is acknowledged, clients go on, it is said once, and all is written when there is room", async () => {
    await writeUntilRefused();
    const xid = await write(1);
    await client.awaitXid(2, xid);
    showsAll();
    assert.ok((await confirmedAgain()) < client.position);
    assert.deepEqual([(await health()).status, said("write the log: ENOSPC")], ["live", 1]);
    await disk.makeRoom();
    await untilConfirmed(client.position);
    assert.equal((await health()).reason, undefined);
    await client.awaitXid(2, await write(1));
    showsAll();
    assert.equal(said("write the log: ENOSPC"), 1);
  });

  test("an engine that is killed starts on the full disk, has lost nothing that it acknowledged, and who is ahead of it goes on", async () => {
    await disk.fill();
    await writeUntilRefused();
    await client.awaitXid(2, await write(1));
    showsAll();
    assert.ok((await confirmedAgain()) < client.position);
    await engine.kill();
    shown.push(...shownCommits(client, 1).map((commit) => commit.xid));
    await write(1);
    await disk.fill();
    await engine.start();
    const { left } = client;
    client = await RawClient.greeted(engine.urls[0]!, undefined, left);
    assert.equal(client.welcome!.resumes, true, client.welcome!.cause?.message);
    client.claim(1, items, identity);
    client.send({ kind: "resume" });
    await client.control("resumed");
    await client.awaitXid(2, await write(1));
    showsAll();
    await disk.makeRoom();
    await untilConfirmed(client.position);
  });

  test("a transaction for which there is no room is waited for, and comes whole once there is", async () => {
    await disk.fill(2048 * KiB);
    const shownBefore = shownCommits(client, 1).length;
    const large = await write(8 * KiB, 1_000);
    const small = await write(1);
    await until(async () => /stage a transaction in .*ENOSPC.*make room/.test((await health()).reason ?? ""));
    const acknowledged = await confirmed();
    assert.deepEqual([shownCommits(client, 1).length, said("stage a transaction") > 0], [shownBefore, true]);
    await disk.makeRoom();
    await client.awaitXid(2, large);
    await client.awaitXid(3, small);
    showsAll();
    const { position, operations } = shownCommits(client, 1).at(-2)!;
    // What others wrote to the same log before it may have been acknowledged, and it was not.
    assert.deepEqual([operations.length, acknowledged < position], [1_000, true]);
    await untilConfirmed(client.position);
    assert.deepEqual([(await health()).status, (await health()).reason], ["live", undefined]);
    assert.equal(
      client.received.some((one) => "control" in one && one.control.kind === "resync"),
      false,
    );
  });
}
