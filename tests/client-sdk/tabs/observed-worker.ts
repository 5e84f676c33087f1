/** The client's worker, which tells what it compiles. */
// oxlint-disable-next-line import/no-unassigned-import -- It is a program.
import "../../../client-sdk/remote/worker.ts";

const compiled: string[] = [];
const { instantiateStreaming } = WebAssembly;
WebAssembly.instantiateStreaming = async (source, imports) => {
  const result = await instantiateStreaming(source, imports);
  compiled.push(new URL((await source).url).pathname);
  return result;
};
Object.assign(globalThis, { compiled });
