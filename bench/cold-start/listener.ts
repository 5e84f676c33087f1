/** A client without a replica in a fresh process. Says when it listens, and then after how long since its beginning an event had come. */
import { createClient } from "../../client-sdk/index.ts";
import { say, whenDismissed } from "../processes.ts";

const [table = "", port = ""] = process.argv.slice(2);

// createClient loads it by itself; but the floor has all that it needs loaded, too.
await import("../../client-sdk/flow.ts");

const started = performance.now();
const client = createClient({ url: `ws://127.0.0.1:${port}` });
whenDismissed(() => client.close());
const channel = client.channel(table).on("*", () => say(performance.now() - started));
await channel.subscribe().ready;
say("listens");
