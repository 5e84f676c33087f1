/** The engine with room for any number of subscriptions on a connection, on any free port. */
import { createEngine } from "../../engine/index.ts";
import { say, whenDismissed } from "../processes.ts";

const [databaseUrl = "", table = "", dataDir = ""] = process.argv.slice(2);
const many = 1_000_000;
const engine = await createEngine({
  databaseUrl,
  dataDir,
  port: 0,
  tables: { [table]: { read: true } },
  limits: {
    connections: many,
    connectionsPerAddress: many,
    connectionsPerUser: many,
    shapesPerConnection: many,
    subscribesPerSecond: many,
  },
  logLevel: "error",
});
whenDismissed(() => engine.close());
say(Number(new URL(engine.url).port));
