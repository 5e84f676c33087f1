/**
 * `walcast start` and `walcast dev`: run an engine until a signal. The first SIGINT or SIGTERM ends everything in order
 * and exits 0; a second one exits at once.
 */
import type { Logger } from "pino";
import { type WalcastConfig, resolveConfig } from "../config.ts";
import { startPostgres } from "../embedded/postgres.ts";
import { WalcastError } from "../errors.ts";
import { createLogger } from "../logger.ts";
import { createEngine } from "../main.ts";
import { onStopSignal } from "../signals.ts";
import { type CommandLine, readConfig } from "./command.ts";

export async function start(line: CommandLine): Promise<number> {
  const config = await readConfig(line);
  const { logLevel, tables } = resolveConfig(config);
  const log = createLogger(logLevel);
  if (tables !== "all" && tables.size === 0)
    log.warn("the config names no tables, so no client can read anything; name them under `tables`");
  return run(config, log);
}

export async function dev(line: CommandLine): Promise<number> {
  const config: WalcastConfig = { ...(await readConfig(line)), tables: "all", topics: "all" };
  const needsPostgres = config.databaseUrl === undefined;
  // Whatever is wrong with the rest shall be said before Postgres starts.
  const { logLevel, dataDir } = resolveConfig({
    ...config,
    databaseUrl: config.databaseUrl ?? "postgresql://127.0.0.1",
  });
  const log = createLogger(logLevel);
  log.warn("for development: every table is readable by everybody on this machine, and only from here");
  return run(config, log, needsPostgres ? dataDir : undefined);
}

/** Resolves with the exit code. `postgresDir`: where to keep a Postgres of our own. */
async function run(config: WalcastConfig, log: Logger, postgresDir?: string): Promise<number> {
  const signal = firstSignal(log);
  await using running = new AsyncDisposableStack();
  const postgres = postgresDir === undefined ? undefined : await ownPostgres(postgresDir, log, running);
  const engine = await Promise.race([
    createEngine({ ...config, ...(postgres && { databaseUrl: postgres.url }) }, log),
    signal,
  ]);
  if (!engine) return 0;
  running.defer(() => engine.close());
  await Promise.race(postgres ? [signal, postgres.failed] : [signal]);
  return 0;
}

async function ownPostgres(
  dataDir: string,
  log: Logger,
  running: AsyncDisposableStack,
): Promise<{ url: string; failed: Promise<never> }> {
  const postgres = await startPostgres({ dataDir, notice: (notice) => log.info(notice) });
  let stopping = false;
  running.defer(() => {
    stopping = true;
    return postgres.stop();
  });
  const failed = postgres.ended.then(() => {
    if (stopping) return new Promise<never>(() => undefined);
    throw new WalcastError(
      "database_unreachable",
      "the embedded Postgres ended by itself: start again; its rows are kept",
    );
  });
  failed.catch(() => undefined); // It counts only where `run` waits for it.
  log.info({ port: postgres.port, clusterDir: postgres.clusterDir }, "Postgres runs");
  // Not through the log, which never holds a password.
  process.stderr.write(`psql ${postgres.url}\n`);
  return { url: postgres.url, failed };
}

function firstSignal(log: Logger): Promise<undefined> {
  return new Promise((resolve) => {
    onStopSignal((signal) => {
      log.info({ signal }, "stopping");
      resolve(undefined);
    });
  });
}
