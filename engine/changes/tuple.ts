/**
 * A row as pgoutput sent it: where each column lies in the received bytes. Nothing is copied and no string is made
 * until somebody asks for one column. A Tuple is reused from message to message, so it is valid until the next decode;
 * `bytes` outlives it only if its owner says so.
 */
export class Tuple {
  bytes: Buffer = Buffer.alloc(0);
  /** Number of columns; `kinds`, `starts` and `ends` are meaningful below it. */
  count = 0;
  /** Per column: NULL_VALUE, UNCHANGED_TOAST or TEXT_VALUE. Binary values we never ask for. */
  kinds = new Uint8Array(16);
  /** Per column: first byte of the value in `bytes`. */
  starts = new Int32Array(16);
  /** Per column: first byte after the value. */
  ends = new Int32Array(16);

  /** Makes room for `count` columns and sets it. Keeps nothing of what was there. */
  reset(bytes: Buffer, count: number): void {
    this.bytes = bytes;
    this.count = count;
    if (count > this.kinds.length) this.grow(count);
  }

  private grow(count: number): void {
    const size = Math.max(count, this.kinds.length * 2);
    this.kinds = new Uint8Array(size);
    this.starts = new Int32Array(size);
    this.ends = new Int32Array(size);
  }

  isNull(column: number): boolean {
    return this.kinds[column] === NULL_VALUE;
  }

  /** The column's text, or null for SQL NULL. Asking for an unchanged TOAST value is a bug of the caller. */
  text(column: number): string | null {
    if (this.kinds[column] === NULL_VALUE) return null;
    return this.bytes.toString("utf8", this.starts[column], this.ends[column]);
  }
}

// The tags of https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html, TupleData.
export const NULL_VALUE = 0x6e; // 'n'
export const UNCHANGED_TOAST = 0x75; // 'u'
export const TEXT_VALUE = 0x74; // 't'
