/**
 * Payloads that wait on the replica's disk for their boundary. Written in local transactions of their own, to a table
 * that nobody else reads; gone after a crash, since what has no boundary comes again.
 */
import type { Database } from "./database.ts";
import type { Spill } from "./pile.ts";

export const stagingTable = `
  CREATE UNLOGGED TABLE walcast.staged (segment int, part int, bytes bytea, PRIMARY KEY (segment, part));
  ALTER TABLE walcast.staged ALTER COLUMN bytes SET STORAGE EXTERNAL`;

export const forgetStaged = "DELETE FROM walcast.staged";

/** Gives the space back, which deleting does not. */
export const emptyStaging = "BEGIN READ WRITE; TRUNCATE walcast.staged; COMMIT";

export function isStagingEmpty(database: Database): boolean {
  return database.rows("SELECT FROM walcast.staged LIMIT 1").length === 0;
}

export function writeSpill(database: Database, { number, payloads }: Spill): void {
  database.copy("walcast.staged", "segment, part, bytes", [binaryCopy(number, payloads)], "(FORMAT binary)");
}

export function readSpilled(database: Database, number: number, part: number): Uint8Array {
  return database.bytes("SELECT bytes FROM walcast.staged WHERE segment = $1::int AND part = $2::int", [
    String(number),
    String(part),
  ]);
}

export function deleteSpilled(numbers: readonly number[]): string {
  return `DELETE FROM walcast.staged WHERE segment IN (${numbers.join(", ")})`;
}

// The signature, no flags, no extension. https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
const signature = Uint8Array.of(
  0x50,
  0x47,
  0x43,
  0x4f,
  0x50,
  0x59,
  0x0a,
  0xff,
  0x0d,
  0x0a,
  0x00,
  ...Array<number>(8).fill(0),
);
/** Count of fields, then each after its length: 4 bytes, 4 bytes, and the payload's own length. */
const ROW_HEAD_BYTES = 2 + 4 + 4 + 4 + 4 + 4;

function binaryCopy(number: number, payloads: readonly Uint8Array[]): Uint8Array {
  const size = payloads.reduce((sum, payload) => sum + ROW_HEAD_BYTES + payload.length, signature.length + 2);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(signature);
  let at = signature.length;
  payloads.forEach((payload, part) => {
    view.setInt16(at, 3);
    view.setInt32(at + 2, 4);
    view.setInt32(at + 6, number);
    view.setInt32(at + 10, 4);
    view.setInt32(at + 14, part);
    view.setInt32(at + 18, payload.length);
    bytes.set(payload, at + ROW_HEAD_BYTES);
    at += ROW_HEAD_BYTES + payload.length;
  });
  view.setInt16(at, -1);
  return bytes;
}
