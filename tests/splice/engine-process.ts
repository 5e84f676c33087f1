/** An engine in a process of its own, so that a test can kill it. Takes its config as JSON, tells its URL in one line. */
import { pino } from "pino";
import { createEngine } from "../../engine/main.ts";

const engine = await createEngine(JSON.parse(process.argv[2]!), pino({ level: "silent" }));
console.log(engine.url);
