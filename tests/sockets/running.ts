/** An engine on a database of its own, for tests that look at what crosses its sockets. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import type { WalcastConfig } from "../../engine/config.ts";
import { createEngine, type Engine } from "../../engine/main.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { transaction } from "../support/transaction.ts";
import { type LeftOff, RawClient } from "./raw-client.ts";

export interface Running {
  readonly engine: Engine;
  readonly db: TestDatabase;
  /** Where the engine has its log. */
  readonly dataDir: string;
  /** Every line that the engine logged, as JSON text. */
  readonly logged: readonly string[];
  greeted(token?: string, left?: LeftOff): Promise<RawClient>;
  metric(name: string): Promise<number>;
  /** Runs statements as one transaction; gives its xid. */
  transaction(...statements: readonly string[]): Promise<string>;
  close(): Promise<void>;
}

/** `setup` runs before the engine starts. */
export async function running(config: WalcastConfig = {}, setup = ""): Promise<Running> {
  const released: (() => Promise<void>)[] = [];
  const db = await testDatabase({ after: (release) => void released.push(release) });
  if (setup !== "") await db.query(setup);
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
  const logged: string[] = [];
  const logger = pino({ level: "debug" }, { write: (line) => void logged.push(line) });
  const engine = await createEngine(
    { databaseUrl: db.url, port: 0, tables: "all", slot: db.name, dataDir, ...config },
    logger,
  );
  const clients: RawClient[] = [];
  return {
    engine,
    db,
    dataDir,
    logged,
    async greeted(token, left) {
      const client = await RawClient.greeted(engine.url, token, left);
      clients.push(client);
      return client;
    },
    async metric(name) {
      const text = await (await fetch(`${engine.url}/metrics`)).text();
      return Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${name} `))!
          .split(" ")[1],
      );
    },
    transaction: (...statements) => transaction(db, statements),
    async close() {
      await Promise.all(clients.map((client) => client.close()));
      await engine.close();
      await rm(dataDir, { recursive: true, force: true });
      for (const release of released) await release();
    },
  };
}
