/** Some clients, each of which asks for the newest rows every so many ms. Notes when each commit's value is in an answer; says "ready", and after the last when each one was. */
import { setInterval, setTimeout as delay } from "node:timers/promises";
import { type Arrivals, arrivalsOfEach } from "../../latency/arrivals.ts";
import { say, whenDismissed } from "../../processes.ts";

const [port = "", commits = "", everyMs = "", clients = "1"] = process.argv.slice(2);
whenDismissed();
for (const arrivals of arrivalsOfEach(Number(clients), Number(commits))) void poll(arrivals);
say("ready");

async function poll(arrivals: Arrivals): Promise<void> {
  // They do not all ask at once.
  await delay(Math.random() * Number(everyMs));
  for await (const _ of setInterval(Number(everyMs))) {
    const rows = (await (await fetch(`http://127.0.0.1:${port}/`)).json()) as { readonly note: string }[];
    const at = Number(process.hrtime.bigint());
    arrivals.saw(
      at,
      rows.map(({ note }) => note),
    );
  }
}
