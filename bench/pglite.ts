/** PGlite as bare as it gets: bytes in, bytes out, without the parsing that its `execProtocolRaw` does beside. */
import assert from "node:assert/strict";
import fs from "node:fs";
import type { PGlite, PGliteOptions } from "@electric-sql/pglite";
import { preparedFile } from "../client-sdk/storage/empty.ts";
import { isSmall } from "./small.ts";

/** Runs messages of the frontend/backend protocol to their end and gives the replies. */
export function execute(pglite: PGlite, messages: Uint8Array): Buffer {
  const replies: Buffer[] = [];
  // It has run by the time it returns; its promise only reports.
  pglite
    .execProtocolRawStream(messages, { syncToFs: false, onRawData: (chunk) => void replies.push(Buffer.from(chunk)) })
    .catch(() => {});
  const bytes = Buffer.concat(replies);
  assert.equal(bytes.at(-6), 0x5a, "PGlite ends by saying that it is ready");
  return bytes;
}

/** It begins with the files that our replicas begin with: making others takes a second, and is measured nowhere. */
export function prepared(): Pick<PGliteOptions, "loadDataDir"> {
  const loadDataDir = preparedFile(fs);
  return loadDataDir ? { loadDataDir } : {};
}

/** It makes its files itself, which is most of what a run with small parameters would do: there it begins with the others', too. */
export function asItComes(): Pick<PGliteOptions, "loadDataDir"> {
  return isSmall() ? prepared() : {};
}
