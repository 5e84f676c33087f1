/** Locks these directories once it is told to, all that it can get, and says which those are. Holds them until it is killed. */
import { lockDirectory } from "../../engine/log/lock.ts";

const directories = process.argv.slice(2);
// A process that listens goes on.
process.on("message", () => void lock());
process.send!("ready");

async function lock(): Promise<void> {
  const tried = await Promise.allSettled(directories.map((directory) => lockDirectory(directory)));
  process.send!(directories.filter((_, i) => tried[i]!.status === "fulfilled"));
}
