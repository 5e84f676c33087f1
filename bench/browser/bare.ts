/** The floor: a bare PGlite in a worker, which gets one message for whatever it is to do, and answers with one. */
import { type Successor, timed, timedEach } from "./contender.ts";

export type Command =
  | {
      readonly kind: "open";
      readonly store: string;
      readonly table: string;
      readonly isPrepared: boolean;
      readonly isReady: boolean;
    }
  | { readonly kind: "load"; readonly lines: Uint8Array }
  /** Gives as much as a row is. */
  | { readonly kind: "echo" }
  | { readonly kind: "firstRows" | "digest" | "close" };

export function create(query: URLSearchParams): Successor {
  const table = query.get("table")!;
  const worker = new Worker(new URL("./bare-worker.ts", import.meta.url), { type: "module" });
  const isPrepared = query.has("empty") && query.has("prepared");
  const isReady = query.has("ready");
  const opened = ask({ kind: "open", store: query.get("store")!, table, isPrepared, isReady });
  const lines = query.has("empty") ? rowsOf(table) : undefined;

  function ask(command: Command, transfer: Transferable[] = []): Promise<unknown> {
    return new Promise((resolve, reject) => {
      worker.addEventListener("message", ({ data }) => resolve(data), { once: true });
      worker.addEventListener("error", ({ message }) => reject(new Error(message)), { once: true });
      worker.postMessage(command, transfer);
    });
  }

  return {
    async firstRows() {
      await opened;
      if (lines) await ask({ kind: "load", lines: await lines });
      await ask({ kind: "firstRows" });
      return performance.now();
    },
    async load() {
      await opened;
      const bytes = await lines!;
      return timed(() => ask({ kind: "load", lines: bytes }, [bytes.buffer]));
    },
    read: (keys) => timedEach(keys, () => ask({ kind: "echo" })),
    async shows() {
      await opened;
      const rows = (await ask({ kind: "firstRows" })) as unknown[];
      if (rows.length === 0) throw new Error("the store has no rows");
    },
    digest: async () => (await ask({ kind: "digest" })) as string,
    close: async () => {
      await ask({ kind: "close" });
      worker.terminate();
    },
  };
}

/** As COPY gave them. */
export async function rowsOf(table: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetch(`/rows/${table}`)).arrayBuffer());
}
