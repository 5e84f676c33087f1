/**
 * The bodies of large transactions. The stream stages them in files of their own; when the transaction is appended, its
 * file moves into the log's directory, under the transaction's position, and only a reference goes into the segment.
 */
import { renameSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { largeBody } from "../changes/large.ts";
import type { LargeBody, Transaction } from "../changes/transaction.ts";
import type { Lsn } from "../protocol.ts";
import { nameOf, removeFile } from "./disk.ts";

/** What the log keeps of a LargeBody: with the directory and the position it is enough to read it. */
export type LargeFile = Pick<LargeBody, "length" | "crc" | "aborted">;

export function largePath(directory: string, position: Lsn): string {
  return nameOf(directory, position, "large");
}

/** Takes the file over: from now on it is the log's, under that path. */
export function takeOver({ large, commitEnd }: Transaction, directory: string): void {
  if (large) renameSync(large.path, largePath(directory, commitEnd));
}

export function bodyAt(directory: string, position: Lsn, { length, crc, aborted }: LargeFile): LargeBody {
  return largeBody({ path: largePath(directory, position), length, crc, aborted });
}

/** Removes what no record refers to: a crash came between the file's move and the record, or retention was cut short. */
export async function removeStrayFiles(directory: string, start: Lsn, end: Lsn): Promise<void> {
  for (const name of await readdir(directory)) {
    const position = /^([0-9a-f]{16})\.large$/.exec(name)?.[1];
    if (position === undefined) continue;
    const at = BigInt(`0x${position}`);
    if (at <= start || at > end) await removeFile(path.join(directory, name));
  }
}
