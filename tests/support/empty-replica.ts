/** What `npm install` makes for replicas to begin with, for whoever had installed before it did. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

export function prepareEmptyReplica(): void {
  const file = new URL("../../client-sdk/storage/empty.tar.gz", import.meta.url);
  if (existsSync(file)) return;
  const program = new URL("make-empty.ts", file);
  spawnSync(
    process.execPath,
    [program, file].map((url) => fileURLToPath(url)),
    { stdio: "inherit" },
  );
}
