/** A result's rows: as they came from Postgres, and as objects once somebody looks at them. */
import type { Statement } from "./statements.ts";
import { type ArrayTypes, type DecodeValue, decoderOf } from "./decoders.ts";
import { type Row, setField } from "./row.ts";
import { decodeField } from "./values.ts";
import { readText, Replies, replyTags, type ResultColumn } from "./wire.ts";

/** The rows of a result as they came, to be decoded when somebody looks at them. */
export interface RawResult {
  readonly bytes: Uint8Array;
  readonly statement: Statement;
}

/** Objects, one per row, decoded by type. */
export function decodeRows(result: RawResult, arrayTypes: ArrayTypes): Row[] {
  const decode = rowDecoder(result.statement.columns, arrayTypes);
  const replies = new Replies(result.bytes);
  const rows: Row[] = [];
  while (replies.next())
    if (replies.tag === replyTags.dataRow) rows.push(decode(replies.bytes, replies.view, replies.start));
  return rows;
}

/** Decodes one DataRow whose body starts at `start`. */
export type RowDecoder = (bytes: Uint8Array, view: DataView, start: number) => Row;

export function rowDecoder(columns: readonly ResultColumn[], arrayTypes: ArrayTypes): RowDecoder {
  const names = columns.map(({ name }) => name);
  const types = columns.map(({ typeOid }) => typeOid);
  const decoders: (DecodeValue | undefined)[] = types.map((oid) => decoderOf(oid, arrayTypes));
  return (bytes, view, start) => {
    const row: Row = {};
    let at = start + 2;
    for (let i = 0; i < names.length; i++) {
      const length = view.getInt32(at);
      at += 4;
      setField(row, names[i]!, length < 0 ? null : decodeField(bytes, at, at + length, types[i]!, decoders[i]));
      if (length > 0) at += length;
    }
    return row;
  };
}

/** Where the body of a DataRow is. */
export interface RowBytes {
  readonly bytes: Uint8Array;
  readonly start: number;
}

/** One value as it came; undefined is NULL. */
export function valueOf({ bytes, start }: RowBytes, column: number): Uint8Array | undefined {
  let at = start + 2;
  for (let skipped = 0; skipped < column; skipped++) at += 4 + Math.max(0, int32(bytes, at));
  const length = int32(bytes, at);
  return length < 0 ? undefined : bytes.subarray(at + 4, at + 4 + length);
}

/** The same as text; null is NULL. */
export function textOf(row: RowBytes, column: number): string | null {
  const value = valueOf(row, column);
  return value ? readText(value, 0, value.length) : null;
}

function int32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}
