/**
 * A client that listens to a topic's messages, or to a channel's events of a table. Says "ready", and after the last commit
 * when each one's callback was called.
 */
import { createClient } from "../../client-sdk/index.ts";
import { Arrivals } from "../latency/arrivals.ts";
import { say, whenDismissed } from "../processes.ts";

const [port = "", commits = "", kind = "", name = ""] = process.argv.slice(2);
const arrivals = new Arrivals(Number(commits));
const client = createClient({ url: `ws://127.0.0.1:${port}` });
whenDismissed(() => client.close());
await (kind === "messages" ? messages() : events());
say("ready");

function messages(): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  client.topic<string>(name).subscribe({
    onConnect: () => resolve(),
    onMessage: ({ payload }) => saw(payload),
    onError: reject,
  });
  return promise;
}

async function events(): Promise<void> {
  await client
    .channel<{ note: string }>(name)
    .on("*", ({ row }) => saw(row!.note))
    .subscribe().ready;
}

function saw(mark: string): void {
  arrivals.saw(Number(process.hrtime.bigint()), [mark]);
}
