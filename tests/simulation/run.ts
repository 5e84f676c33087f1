/** `node tests/simulation/run.ts --seed N --seconds 600`: the simulation for as long as one likes, from a seed or from any. */
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { processFlags } from "../support/processes.ts";

const { seed, seconds } = parseArgs({
  options: { seed: { type: "string" }, seconds: { type: "string", default: "600" } },
}).values;
const file = fileURLToPath(new URL("../simulation.test.ts", import.meta.url));
const child = spawn(process.execPath, [...processFlags, "--test", "--test-reporter=spec", file], {
  stdio: "inherit",
  env: {
    ...process.env,
    NODE_COMPILE_CACHE: join(tmpdir(), "walcast-tests-compiled"),
    WALCAST_SECONDS: seconds,
    ...(seed === undefined ? {} : { WALCAST_SEED: seed }),
  },
});
child.on("exit", (code) => process.exit(code ?? 1));
