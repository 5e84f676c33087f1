/**
 * The program of an EngineProcess: takes the configs of its engines as JSON, starts them when it reads a line, tells their
 * URLs in one line, logs in the others. JSON holds no rules: without `tables` an engine has those of the simulation.
 */
import { once } from "node:events";
import { pino } from "pino";
import { createEngine } from "../../engine/main.ts";
import type { WalcastConfig } from "../../engine/config.ts";
import { rules } from "./rules.ts";

const log = pino({ level: process.env.WALCAST_LOG ?? "info", base: null }, pino.destination({ sync: true }));
const configs = JSON.parse(process.argv[2]!) as WalcastConfig[];
await once(process.stdin, "data");
process.stdin.unref();
const starting = Promise.all(
  configs.map((config) => createEngine(config.tables ? config : { ...config, ...rules }, log)),
);
process.on("SIGTERM", () => void stop());
console.log(JSON.stringify((await starting).map(({ url }) => url)));

async function stop(): Promise<void> {
  for (const engine of await starting) await engine.close();
  process.exit(0);
}
