/** A dedicated worker that does what the page tells it to. */
import { type Call, run } from "./commands.ts";

addEventListener("message", ({ data }: MessageEvent<Call>) => {
  run(data).then(
    (value) => postMessage({ id: data.id, value }),
    (error: Error & { code?: string }) => postMessage({ id: data.id, error: `${error.code}: ${error.message}` }),
  );
});
