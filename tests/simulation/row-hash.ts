/** Whether two sets of rows are the same, told by a number for each. */
import { crc32 } from "node:zlib";

/** Of the row as it stands in a DataRow message: sums of these tell whether two sets of rows are the same. */
export function hashOf(row: readonly (string | null)[]): number {
  const parts: Buffer[] = [];
  for (const field of row) {
    const text = Buffer.from(field ?? "");
    const length = Buffer.alloc(4);
    length.writeInt32BE(field === null ? -1 : text.length);
    parts.push(length, text);
  }
  return hashFields(Buffer.concat(parts));
}

/** Mixed, since sums of CRCs that differ in the same bits would come out equal more often than chance. */
export function hashFields(bytes: Uint8Array): number {
  let mixed = crc32(bytes);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
