/** Big-endian. By hand: a DataView for each buffer, or a call into C++, costs more than four bytes. */
export function uint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
