/** The client's worker, which tells what it compiles, and where its name is `held`, waits for a word before it does. */
// oxlint-disable-next-line import/no-unassigned-import -- It is a program.
import "../../../client-sdk/remote/worker.ts";

const compiled: string[] = [];
const { promise: released, resolve: release } = Promise.withResolvers<void>();
if ((globalThis as unknown as { name: string }).name !== "held") release();
const { instantiateStreaming } = WebAssembly;
WebAssembly.instantiateStreaming = async (source, imports) => {
  await released;
  const result = await instantiateStreaming(source, imports);
  compiled.push(new URL((await source).url).pathname);
  return result;
};
Object.assign(globalThis, { compiled, release });
