/** The page of storage.browser.test.ts: runs commands itself, or hands them to a worker. */
import { type Call, run } from "./commands.ts";

let worker: Worker | undefined;
let lastId = 0;

function inWorker(name: Call["name"], argument: unknown): Promise<unknown> {
  worker ??= new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const id = ++lastId;
  return new Promise((resolve, reject) => {
    worker!.addEventListener("message", function answered({ data }) {
      if (data.id !== id) return;
      worker?.removeEventListener("message", answered);
      if (data.error === undefined) resolve(data.value);
      else reject(new Error(data.error));
    });
    worker!.postMessage({ id, name, argument }, []);
  });
}

Object.assign(globalThis, {
  inWorker,
  inPage: (name: Call["name"], argument: unknown) => run({ id: 0, name, argument }),
  /** As when its tab is closed or the browser crashes: at once, and nobody is asked. */
  killWorker() {
    worker?.terminate();
    worker = undefined;
  },
});
