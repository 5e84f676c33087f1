/** Bundlers look for exactly this expression; the build puts the file's built name in it. */
export function createWorker(): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "walcast" });
}
