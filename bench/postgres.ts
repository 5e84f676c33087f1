/** A Postgres of the bench's own, with the settings a server comes with: what it costs to be safe belongs to the figures. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { startPostgres } from "../engine/embedded/postgres.ts";

export interface BenchPostgres {
  readonly url: string;
  readonly version: string;
  readonly query: <Row>(sql: string) => Promise<Row[]>;
  readonly stop: () => Promise<void>;
}

export async function benchPostgres(): Promise<BenchPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-"));
  // Where we are root, Postgres runs as somebody else, who has to get in.
  await chmod(dataDir, 0o755);
  const postgres = await startPostgres({ dataDir, port: lowPort() });
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  const query = async <Row>(sql: string): Promise<Row[]> => (await client.query(sql)).rows as Row[];
  const [found] = await query<{ server_version: string }>("show server_version");
  const stop = async (): Promise<void> => {
    await client.end();
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  return { url: postgres.url, version: found!.server_version, query, stop };
}

/** Below the ports that outgoing connections take. */
function lowPort(): number {
  return 20_000 + Math.floor(Math.random() * 10_000);
}
