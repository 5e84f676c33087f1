/** A Postgres of the bench's own, with the settings a server comes with: what it costs to be safe belongs to the figures. */
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { type EmbeddedPostgres, startPostgres } from "../engine/embedded/postgres.ts";
import { emptyCluster } from "../tests/support/cluster.ts";

export interface BenchPostgres {
  readonly url: string;
  readonly version: string;
  readonly query: <Row>(sql: string) => Promise<Row[]>;
  readonly stop: () => Promise<void>;
}

/** Where there is a server that benches share, a database of it. */
let shared: EmbeddedPostgres | undefined;

export async function benchPostgres(): Promise<BenchPostgres> {
  return shared ? databaseOf(shared) : ownServer();
}

/**
 * From now on benches share one server, which costs most of them more than what they do with small parameters. For figures that are
 * worth nothing: it keeps nothing safe. Gives how to end it.
 */
export async function sharePostgres(): Promise<() => Promise<void>> {
  const { postgres, end } = await started(await emptyCluster(), { fsync: "off", full_page_writes: "off" });
  shared = postgres;
  return end;
}

async function ownServer(): Promise<BenchPostgres> {
  const { postgres, end } = await started(await newDirectory(), {});
  const client = await connected(postgres.url);
  const stop = async (): Promise<void> => {
    await client.end();
    await end();
  };
  return { ...(await opened(client)), url: postgres.url, stop };
}

async function databaseOf(server: EmbeddedPostgres): Promise<BenchPostgres> {
  const name = `bench_${randomBytes(6).toString("hex")}`;
  const admin = await connected(server.url);
  await admin.query(`create database ${name}`);
  const url = new URL(server.url);
  url.pathname = `/${name}`;
  const client = await connected(url.href);
  const stop = async (): Promise<void> => {
    await client.end();
    await dropDatabase(admin, name);
    await admin.end();
  };
  return { ...(await opened(client)), url: url.href, stop };
}

/** Slots are the server's, and their names unique in it: the next bench takes them anew. */
async function dropDatabase(admin: Client, name: string): Promise<void> {
  await admin.query("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", [name]);
  await admin.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1", [name]);
  await admin.query(`drop database ${name} with (force)`);
}

async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-"));
  // Where we are root, Postgres runs as somebody else, who has to get in.
  await chmod(directory, 0o755);
  return directory;
}

async function started(
  dataDir: string,
  flags: Readonly<Record<string, string>>,
): Promise<{ postgres: EmbeddedPostgres; end: () => Promise<void> }> {
  const postgres = await startPostgres({ dataDir, port: lowPort(), flags });
  const end = async (): Promise<void> => {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  return { postgres, end };
}

async function connected(connectionString: string): Promise<Client> {
  const client = new Client({ connectionString });
  await client.connect();
  return client;
}

async function opened(client: Client): Promise<Pick<BenchPostgres, "version" | "query">> {
  const query = async <Row>(sql: string): Promise<Row[]> => (await client.query(sql)).rows as Row[];
  const [found] = await query<{ server_version: string }>("show server_version");
  return { version: found!.server_version, query };
}

/** Below the ports that outgoing connections take. */
function lowPort(): number {
  return 20_000 + Math.floor(Math.random() * 10_000);
}
