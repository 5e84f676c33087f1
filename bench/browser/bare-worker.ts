/** The worker of bare.ts. */
import { PGlite } from "@electric-sql/pglite";
import { Messages } from "../../client-sdk/wire.ts";
import { addKey, createTable, digestOf } from "../first-sync/rows.ts";
import type { Command } from "./bare.ts";
import { emptyFiles, newestOf } from "./contender.ts";

const messages = new Messages();
let pglite: PGlite;
let table = "";

addEventListener("message", ({ data }: MessageEvent<Command>) => void answer(data).then((value) => postMessage(value)));

async function answer(command: Command): Promise<unknown> {
  switch (command.kind) {
    case "open":
      ({ table } = command);
      if (command.isReady) await (await PGlite.create()).close();
      await locked(command.store);
      pglite = await openedWhenFree(`opfs-ahp://${command.store}`, await emptyFiles(command.isPrepared));
      return run(messages.query("set timezone = 'UTC'"));
    case "load":
      await run(messages.query(createTable(table)));
      await run(messages.query(`copy ${table} from stdin`).copyData(command.lines).copyDone());
      return run(messages.query(addKey(table)));
    case "echo":
      return [
        { id: 1, customer_id: 1, status: "pending", amount: "1.37", created_at: new Date(0), paid: false, note: "-" },
      ];
    case "firstRows":
      return (await pglite.query(newestOf(table))).rows;
    case "digest":
      return (await pglite.query<{ digest: string }>(digestOf(table))).rows[0]!.digest;
    case "close":
      return pglite.close();
  }
}

/** For as long as the worker lives. */
function locked(store: string): Promise<void> {
  return new Promise((resolve) => {
    void navigator.locks.request(`bare/${store}`, () => {
      resolve();
      return new Promise(() => {});
    });
  });
}

/** A page that has crashed gives its files back a moment later than its locks. */
async function openedWhenFree(dataDir: string, files: { loadDataDir?: Blob }): Promise<PGlite> {
  for (;;) {
    try {
      return await PGlite.create(dataDir, files);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
  }
}

async function run(built: Messages): Promise<void> {
  await pglite.execProtocolRawStream(built.take(), { syncToFs: false, onRawData: () => undefined });
}
