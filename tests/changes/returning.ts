/** An engine that is started and stopped on the same files, and a client that leaves and comes back, over raw sockets. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { pino } from "pino";
import type { WalcastConfig } from "../../engine/config.ts";
import { createEngine, type Engine } from "../../engine/main.ts";
import { decodeCommits, type ErrorJson, type Lsn } from "../../engine/protocol.ts";
import { type LeftOff, RawClient, rowsOf } from "../sockets/raw-client.ts";
import { type Releasing, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";

export const shape = { table: "items" };

/** Makes what everybody here shows. */
export const setup = "create table items (id int primary key); insert into items values (1)";

/** What a client knows that has left. */
export interface Visited {
  readonly left: LeftOff;
  readonly identity: string;
}

export interface Engines {
  readonly dataDir: string;
  /** Every line that the engines logged, as JSON text. */
  readonly logged: string[];
  start(config?: WalcastConfig): Promise<Engine>;
}

/** Engines on one data directory, one after the other; closed after the test. */
export async function engines(databaseUrl: string, slot: string, t: Releasing): Promise<Engines> {
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
  const logged: string[] = [];
  const logger = pino({ level: "debug" }, { write: (line) => void logged.push(line) });
  const started: Engine[] = [];
  t.after(async () => {
    for (const engine of started) await engine.close();
    await rm(dataDir, { recursive: true, force: true });
  });
  return {
    dataDir,
    logged,
    async start(config = {}) {
      const engine = await createEngine({ databaseUrl, slot, dataDir, port: 0, tables: "all", ...config }, logger);
      started.push(engine);
      return engine;
    },
  };
}

/** A database with it, and engines on it: one after the other, and others `beside` these. They are closed before it is dropped. */
export async function database(
  t: Releasing,
): Promise<{ db: TestDatabase; shop: Engines; beside: (slot: string, url?: string) => Promise<Engines> }> {
  const releases: (() => unknown)[] = [];
  const newestFirst: Releasing = { after: (release) => void releases.unshift(release) };
  t.after(async () => {
    for (const release of releases) await release();
  });
  const db = await testDatabase(newestFirst);
  await db.query(setup);
  const beside = (slot: string, url = db.url): Promise<Engines> => engines(url, slot, newestFirst);
  return { db, shop: await beside(db.name), beside };
}

/** Loads the table `items` and leaves. */
export async function visit(engine: Engine): Promise<Visited> {
  const client = await RawClient.greeted(engine.url);
  const { table } = await client.load(1, shape);
  await client.close();
  return { left: client.left, identity: table.identity };
}

/** Comes back, and goes on where it was: gives the rows that were inserted meanwhile, of which there must be `count`. */
export async function goesOn(engine: Engine, { left, identity }: Visited, count: number): Promise<unknown[]> {
  const client = await RawClient.greeted(engine.url, undefined, left);
  assert.equal(client.welcome!.resumes, true, JSON.stringify(client.welcome!.cause));
  client.claim(1, shape, identity);
  client.send({ kind: "resume" });
  await client.control("resumed");
  const rows: unknown[] = [];
  while (rows.length < count) {
    const { sections } = await client.frame(({ kind }) => kind === "commits");
    for (const { operations } of sections.flatMap(({ payload }) => decodeCommits(payload)))
      for (const operation of operations) rows.push(operation.kind === "insert" && operation.row);
  }
  await client.close();
  return rows;
}

/** Comes back, is told why it cannot go on, and loads the table anew. */
export async function startsAnew(engine: Engine, { left }: Visited): Promise<{ cause: ErrorJson; rows: unknown[] }> {
  const client = await RawClient.greeted(engine.url, undefined, left);
  const { resumes, cause } = client.welcome!;
  assert.notEqual(resumes, true);
  const { lines, commits } = await client.load(1, shape);
  await client.close();
  // Rows that were read before come with what was committed since.
  const since = commits.flatMap(({ operations }) => operations).map((one) => one.kind === "insert" && one.row);
  return { cause: cause!, rows: [...rowsOf(lines), ...since] };
}

/** Until it says so, asked as an operator's monitor would: nothing is told of a change of health. */
export function healthSays(url: string, pattern: RegExp): Promise<void> {
  const health = (): Promise<string> =>
    fetch(`${url}/health`).then(
      (response) => response.text(),
      () => "",
    );
  return until(async () => pattern.test(await health()));
}

/** On a connection of its own, as the server may be gone before the next. */
export async function query(url: string, sql: string): Promise<readonly Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return rows;
  } finally {
    await client.end();
  }
}

export function lsnOf(text: string): Lsn {
  const [high, low] = text.split("/");
  return ((BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)) as Lsn;
}
