/** The program of a RemoteWatcher: a client whose replica is a directory. */
import { formatLsn, parseLsn } from "../../engine/protocol.ts";
import { Random } from "../splice/random.ts";
import type { RemoteTask, Told } from "./remote.ts";
import { Watcher } from "./watcher.ts";

const task = JSON.parse(process.argv[2]!) as RemoteTask;
const { name, url, directory, shapes, access, formerly } = task;
const tell = (told: Told): void => void process.stdout.write(`${JSON.stringify(told)}\n`);
// What it does by chance is nothing: it is killed by chance.
const random = new Random(0);
const watcher = await Watcher.open({ name, url, random, replica: directory, access, formerly, tell: tellStates });
const lastComplete = parseLsn(task.lastComplete);
const earlier = task.isComplete ? { completeAt: lastComplete } : { incompleteFrom: lastComplete };
for (const asked of shapes) watcher.claim(asked, earlier);
setInterval(tellNow, 50);

function tellStates(): void {
  for (const { position, tables, doing } of watcher.takeObservations()) {
    const counted = tables.map(({ rows: _, ...table }) => table);
    tell({ kind: "state", position: formatLsn(position), tables: counted, doing });
  }
}

function tellNow(): void {
  for (const { from, to, ...refetch } of watcher.takeRefetches())
    tell({ kind: "refetch", refetch, from: formatLsn(from), to: formatLsn(to) });
  tell({
    kind: "now",
    position: watcher.client.position,
    isComplete: watcher.hasReached(watcher.position),
    tables: [...watcher.tables],
    text: watcher.describe(),
  });
}
