/**
 * `postgres.json` in the data directory: how to reach the embedded Postgres while it runs, and whose it is. Written
 * when it takes connections, removed when it stopped; one that outlives its owner tells the next start what to clear.
 */
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

export interface PostgresRecord {
  readonly url: string;
  /** The process that started it and will stop it. */
  readonly owner: number;
  readonly clusterDir: string;
}

/** Whole or not at all: a reader never meets half a file. */
export async function writeRecord(dataDir: string, record: PostgresRecord): Promise<void> {
  const path = recordPath(dataDir);
  await writeFile(`${path}.new`, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

export async function readRecord(dataDir: string): Promise<PostgresRecord | undefined> {
  try {
    return parseRecord(JSON.parse(await readFile(recordPath(dataDir), "utf8")));
  } catch {
    // Missing or damaged: either way nobody can be found through it.
    return undefined;
  }
}

export async function removeRecord(dataDir: string): Promise<void> {
  await rm(recordPath(dataDir), { force: true });
}

function parseRecord(json: Partial<PostgresRecord>): PostgresRecord | undefined {
  const { url, owner, clusterDir } = json;
  if (typeof url !== "string" || typeof owner !== "number" || typeof clusterDir !== "string") return undefined;
  return { url, owner, clusterDir };
}

function recordPath(dataDir: string): string {
  return join(dataDir, "postgres.json");
}
