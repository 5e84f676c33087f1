/**
 * `npm test`: one Postgres for the whole run, then Node's own runner over the files given, or over all of them. What it
 * prints, its closing line too, and its exit code are the runner's. `--postgres=14` takes another major than the newest.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { prepareEmptyReplica } from "./support/empty-replica.ts";
import { startSharedCluster } from "./support/postgres.ts";
import { processFlags } from "./support/processes.ts";
import { thorough } from "./support/thorough.ts";

const isMajor = (argument: string): boolean => argument.startsWith("--postgres=");
const major = process.argv.findLast(isMajor)?.split("=")[1];
if (major) process.env.WALCAST_TEST_POSTGRES_MAJOR = major;

const named = process.argv.slice(2).filter((argument) => !isMajor(argument));
const files = named.some((argument) => !argument.startsWith("-")) ? named : [...named, "tests/**/*.test.ts"];
// A test that hangs is a failure with a name, not a run that never ends: no other takes so long, on a machine with ten times as much
// to do either. A third of the time a file waits for something: three of them at once keep two cores busy.
const timeoutMs = thorough(300_000, 120_000);
const flags = [...processFlags, "--test", `--test-timeout=${timeoutMs}`, "--test-concurrency=3"];

prepareEmptyReplica();
const cluster = await startSharedCluster();
const env = {
  ...process.env,
  WALCAST_TEST_POSTGRES: cluster.url,
  // Hundreds of processes load the same sources, and compiling them is half of what the start of an engine costs.
  NODE_COMPILE_CACHE: join(tmpdir(), "walcast-tests-compiled"),
};
const runner = spawn(process.execPath, [...flags, ...files], { stdio: "inherit", env });
// Ctrl-C reaches the runner by itself; we stay to stop Postgres after it.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => runner.kill("SIGTERM"));
const [code] = (await once(runner, "close")) as [number | null];
await cluster.stop();
process.exit(code ?? 1);
