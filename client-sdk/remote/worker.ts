/**
 * The worker of a replica in the browser's storage. `createClient` starts it; a bundler that does not understand
 * `new Worker(new URL(…))` is given this file as an entry, `@walcast/client/worker`.
 */
import { Contender, type WorkerScope } from "./contender.ts";

const scope = globalThis as unknown as WorkerScope;

// Who takes over when the network is gone must have all it needs by then.
import("../flow.ts").catch(() => {});
import("../local.ts").catch(() => {});

let contender: Contender | undefined;

scope.onmessage = ({ data }) => {
  if (data.kind === "start") contender ??= new Contender(scope, data);
  else contender?.do(data);
};
