/** A directory for large transactions that does not exist yet, and is gone after the run. */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import type { Releasing } from "./postgres.ts";

export function stagingDirectory(t: Releasing = { after }): string {
  const directory = join(tmpdir(), `walcast-staging-${randomBytes(6).toString("hex")}`);
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}
