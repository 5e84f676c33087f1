/** The program of an EngineProcess: takes its config as JSON, tells its URL in one line, logs in the others. */
import { pino } from "pino";
import { createEngine } from "../../engine/main.ts";
import type { WalcastConfig } from "../../engine/config.ts";

const log = pino({ level: process.env.WALCAST_LOG ?? "info", base: null }, pino.destination({ sync: true }));
const config = JSON.parse(process.argv[2]!) as WalcastConfig;
const starting = createEngine(config, log);
process.on("SIGTERM", () => void starting.then((engine) => engine.close()).then(() => process.exit(0)));
console.log((await starting).url);
