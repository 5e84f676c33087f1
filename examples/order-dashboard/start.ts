/**
 * `npm start`: a Postgres with a shop in it, the engine beside it, and the dashboard in front, all on this machine.
 * Says what it is doing, then what to do. Ctrl-C stops everything; the next start finds the shop as it was left.
 */
import { createServer } from "node:net";
import { createEngine, type WalcastConfig, WalcastError } from "@walcast/engine";
import pg from "pg";
import { startPostgres } from "../../engine/embedded/postgres.ts";
import { onStopSignal } from "../../engine/signals.ts";
import { createApp } from "./server/app.ts";
import { buildPage, builtPage } from "./server/build.ts";
import { createShop } from "./server/database.ts";
import { readable } from "./server/readable.ts";
import { readSettings, type Settings, usage } from "./server/settings.ts";
import { Traffic } from "./server/traffic.ts";

/** Everything that is open, closed in reverse. */
const opened = new AsyncDisposableStack();
const notices: string[] = [];

let isStopping = false;
onStopSignal(() => void stop(0));

try {
  const settings = readSettings(process.argv.slice(2), process.env);
  if (settings) await start(settings);
  else console.log(usage);
} catch (error) {
  await fail(error);
}

async function start(settings: Settings): Promise<void> {
  console.log("\n  Walcast · live order dashboard\n");
  await requireFree(settings);
  const databaseUrl = settings.databaseUrl ?? (await step("PostgreSQL 18", () => openPostgres(settings)));
  const pool = openPool(databaseUrl);
  await step(
    "Shop",
    () => createShop(pool),
    (orders) => (orders > 0 ? `${orders.toLocaleString("en")} orders made` : "kept from last time"),
  );
  const staticDir = (await builtPage()) ?? (await step("Page", buildPage, () => "built"));
  const traffic = await openTraffic(pool);
  const app = createApp(pool, traffic);
  const url = await step("Engine", () => openEngine(settings, { databaseUrl, staticDir, app }));
  console.log(await whatToDo(url, databaseUrl, settings, pool));
}

// ── What runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

async function openPostgres({ dataDir, postgresPort: port }: Settings): Promise<string> {
  const postgres = await startPostgres({
    dataDir,
    notice: (line) => notices.push(line),
    ...(port !== undefined && { port }),
  });
  opened.defer(() => postgres.stop());
  void postgres.ended.then(() => fail(new Error("PostgreSQL has ended, and so does this. Start again to go on.")));
  return postgres.url;
}

function openPool(connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 4, application_name: "order dashboard" });
  // A connection that breaks while nobody uses it: the pool opens another one when somebody does.
  pool.on("error", () => undefined);
  opened.defer(() => pool.end());
  return pool;
}

/** Off at first, also if it was on when an earlier run was killed. */
async function openTraffic(pool: pg.Pool): Promise<Traffic> {
  const traffic = new Traffic(pool);
  await traffic.stop();
  opened.defer(() => traffic.stop().catch(() => undefined));
  return traffic;
}

async function openEngine(
  settings: Settings,
  own: Pick<WalcastConfig, "databaseUrl" | "staticDir" | "app">,
): Promise<string> {
  const { port, host, dataDir } = settings;
  const engine = await createEngine({ ...own, host, port, dataDir, ...readable, logLevel: "error" });
  opened.defer(() => engine.close());
  return engine.url;
}

/** Looked at first, because everything else takes seconds. */
async function requireFree({ port, host }: Settings): Promise<void> {
  const probe = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  probe.once("listening", resolve).once("error", reject).listen(port, host);
  try {
    await promise;
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === "EADDRINUSE" ? portInUse(port) : error;
  } finally {
    probe.close();
  }
}

function portInUse(port: number): WalcastError {
  const other = port === 4437 ? 4438 : port + 1;
  return new WalcastError(
    "port_in_use",
    `Port ${port} is in use: stop what runs there, or choose another one with \`npm start -- --port ${other}\`.`,
  );
}

// ── What is said ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** One line for each thing that takes time: its name at once, how it went afterwards. */
async function step<T>(
  name: string,
  work: () => Promise<T>,
  result: (value: T) => string = () => "running",
): Promise<T> {
  const startedAt = performance.now();
  process.stdout.write(`  ${name.padEnd(15)}`);
  try {
    const value = await work();
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
    process.stdout.write(`${result(value).padEnd(22)}${seconds.padStart(5)} s\n`);
    for (const notice of notices.splice(0)) console.log(`                 ${notice}`);
    return value;
  } catch (error) {
    process.stdout.write("\n");
    throw error;
  }
}

async function whatToDo(url: string, databaseUrl: string, { port, dataDir }: Settings, pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query<{ id: number; status: string }>(
    "SELECT id, status FROM orders ORDER BY id DESC LIMIT 1",
  );
  const { id = 1, status } = rows[0] ?? {};
  const update = `UPDATE orders SET status = '${status === "shipped" ? "delivered" : "shipped"}' WHERE id = ${id}`;
  const page = url.replace(/\/\/(127\.0\.0\.1|0\.0\.0\.0)/, "//localhost");
  return `
  Open           ${page}/
                 in two windows, if you like, and keep an eye on order ${id}

  Then run       ${update};
  in psql        psql ${databaseUrl}
  or without     npm run sql -- "${update}"

  Place an order npm run sql -- "SELECT place_order()"
                 and every window says so, once it is committed

  Ctrl-C stops everything. The rows stay in ${dataDir}${port === 4437 ? "" : ` (port ${port})`}.
`;
}

// ── How it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A second signal does not wait for this. Postgres ends with this process, whichever way this process ends. */
async function stop(code: number): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  await opened.disposeAsync().catch(report);
  process.exit(code);
}

async function fail(error: unknown): Promise<void> {
  if (isStopping) return;
  report(error);
  await stop(1);
}

/** Errors of the world in one sentence; our own bugs with everything there is to know. */
function report(error: unknown): void {
  const isExpected =
    error instanceof WalcastError || (error instanceof Error && "code" in error) || error?.constructor === Error;
  console.error(isExpected ? `\n  ${(error as Error).message}\n` : error);
}
