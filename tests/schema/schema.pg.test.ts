/**
 * Schema changes as a replica lives through them: whatever is done to a table, every state that a live query shows is one
 * that Postgres had at some commit, in their order, and in the end the replica has the new form and the right rows. Once
 * with the engine there, and once with the engine down while it is done. Where event triggers are not permitted, the
 * catalog is looked at every few seconds, and only the end is promised.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Pool } from "pg";
import { pino } from "pino";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import { createEngine, type Engine } from "../../engine/main.ts";
import { lowPort, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { emptyReplica } from "../support/replica.ts";
import { transaction } from "../support/transaction.ts";
import { isNewest } from "../versions/programs.ts";
import { type SchemaCase, schemaCases } from "./cases.ts";

class Watched {
  readonly of: SchemaCase;
  readonly table: string;
  /** What Postgres had, commit by commit, and what the replica showed. */
  readonly had: string[] = [];
  readonly shown: string[] = [];
  /** What the shape said since it was ready first. */
  readonly said: string[] = [];
  shape!: Shape;

  constructor(of: SchemaCase, number: number) {
    this.of = of;
    this.table = `t${number}`;
  }

  sql(text: string): string {
    return text.replaceAll("%", this.table);
  }

  get query(): string {
    // Virtual generated columns are not on a replica; stored ones are where they are sent.
    return this.sql(
      "select coalesce(json_agg(to_jsonb(r) - 'g' - 'virtual' order by r.id::text), '[]')::text as state from % r",
    );
  }

  async note(db: TestDatabase): Promise<void> {
    const { rows } = await db.query(this.query);
    this.had.push((rows[0] as { state: string }).state);
  }

  watch(client: Client): void {
    this.shape = client.sync({ table: this.table });
  }

  look(client: Client): void {
    this.shape.on("status", (status) => this.said.push(status));
    client.live<{ state: string }>(this.query).subscribe((rows) => {
      const { state } = rows[0]!;
      // Another table under that name: what was shown may not be shown any more, and nothing is until the new rows are there.
      if (state === "[]" && this.of.isAnother) return;
      if (this.shown.at(-1) !== state) this.shown.push(state);
    });
  }

  /** Resolves when it shows what Postgres has. */
  reaches(client: Client): Promise<void> {
    return new Promise((resolve) => {
      const live = client.live<{ state: string }>(this.query);
      const stop = live.subscribe((rows) => {
        if (rows[0]!.state !== this.had.at(-1)) return;
        resolve();
        queueMicrotask(() => stop());
      });
    });
  }
}

/** Its owner may replicate, and may not make event triggers. */
async function ownedDatabase(): Promise<TestDatabase> {
  const db = await testDatabase({ after: () => {} });
  const owner = `owner_${db.name}`;
  await db.query(
    `create role ${owner} login replication password 'owner'; alter database ${db.name} owner to ${owner}`,
  );
  const url = new URL(db.url);
  url.username = owner;
  url.password = "owner";
  const pool = new Pool({ connectionString: url.href });
  pool.on("error", () => {});
  const drop = async (): Promise<void> => {
    await pool.end();
    await db.drop();
  };
  return { ...db, url: url.href, pool, drop, query: (sql, params = []) => pool.query(sql, [...params]) };
}

type Way = "the engine there" | "the engine down" | "no event triggers";

// What older majors could do differently shows in what the event triggers note.
const ways: readonly Way[] = isNewest
  ? ["the engine there", "the engine down", "no event triggers"]
  : ["the engine there"];

for (const way of ways)
  describe(`a replica, with ${way}`, () => {
    const isUp = way !== "the engine down";
    const isNoted = way !== "no event triggers";
    const watched = schemaCases.map((one, i) => new Watched(one, i));
    const port = lowPort();
    let db: TestDatabase;
    let engine: Engine;
    let client: Client;
    /** For what no replica can hold before it was told of it: all that this one shows is loaded again. */
    let apart: Client;
    let dataDir: string;

    const start = async (): Promise<void> => {
      const config = { databaseUrl: db.url, port, tables: "all", slot: db.name, dataDir } as const;
      engine = await createEngine(config, pino({ level: process.env.WALCAST_LOG ?? "fatal" }));
    };

    before(async () => {
      db = isNoted ? await testDatabase({ after: () => {} }) : await ownedDatabase();
      dataDir = await mkdtemp(join(tmpdir(), "walcast-schema-"));
      for (const one of watched) await db.query(one.sql(one.of.given));
      await start();
      client = createClient({ url: engine.url, replica: await emptyReplica() });
      apart = isNoted ? client : createClient({ url: engine.url, replica: await emptyReplica() });
      for (const one of watched) one.watch(clientOf(one));
      await Promise.all(watched.map(({ shape }) => shape.ready));
      for (const one of watched) {
        await one.note(db);
        one.look(clientOf(one));
      }
      await changeAll();
      if (!isNoted) await Promise.all(watched.map((one) => one.reaches(clientOf(one))));
      await settled();
    });

    /** Tables of which it was noted that nobody can go on with them, and what resyncs came to. */
    async function unexplained(): Promise<string> {
      const { rows } = await db.query(
        "select xmin::text, array_agg(table_oid::regclass::text) from walcast.schema_changes where version is null group by 1",
      );
      const metrics = await (await fetch(`${engine.url}/metrics`)).text();
      return JSON.stringify([rows, metrics.match(/^walcast_(resyncs|clients_returned)_total.* [1-9].*$/gm)]);
    }

    const clientOf = (one: Watched): Client => (one.of.givesLabels ? apart : client);

    after(async () => {
      await Promise.all([client.close(), apart.close()]);
      await Promise.all([client.pglite.close(), apart === client ? undefined : apart.pglite.close()]);
      await engine.close();
      await rm(dataDir, { recursive: true, force: true });
      await db.drop();
    });

    async function changeAll(): Promise<void> {
      if (!isUp) await engine.close();
      for (const one of watched)
        for (const statements of one.of.transactions) {
          await transaction(db, [one.sql(statements)]);
          await one.note(db);
        }
      if (!isUp) await start();
    }

    /** Every shape is ready at the last commit, or has said that it never will be. */
    async function settled(): Promise<void> {
      const { rows } = await db.query("select pg_current_wal_insert_lsn()::text as lsn");
      for (const one of [client, apart]) await one.awaitPosition((rows[0] as { lsn: string }).lsn);
      for (const { shape } of watched) await isSettled(shape);
    }

    function isSettled(shape: Shape): Promise<void> {
      return new Promise((resolve) => {
        const check = (): void => {
          if (shape.status !== "ready" && shape.status !== "error") return;
          stop();
          resolve();
        };
        const stop = shape.on("status", check);
        check();
      });
    }

    for (const one of watched)
      test(`follows when ${one.of.name}`, async () => {
        assert.equal(one.shape.error, undefined);
        const [found] = await clientOf(one).query<{ state: string }>(one.query);
        assert.equal(found!.state, one.had.at(-1), "the rows and columns in the end");
        if (!isNoted) return;
        let at = 0;
        for (const state of one.shown) {
          const next = one.had.indexOf(state, at);
          assert.notEqual(
            next,
            -1,
            `shown, and never so in Postgres, or not any more:\n${state}\n\n${one.had.join("\n")}`,
          );
          at = next;
        }
        if (isUp && one.of.inPlace && one.said.length > 0) assert.fail(`loaded anew: ${await unexplained()}`);
      });

    test("comes to no breach", () => {
      const { breaches, lastError } = client.inspect();
      assert.equal(breaches, 0);
      assert.notEqual(lastError?.code, "replica_failed");
    });
  });
