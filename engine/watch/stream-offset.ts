/** Where a reader of a Durable Stream is, as text that sorts as the stream goes. */
import { WalcastError } from "../errors.ts";
import type { Lsn } from "../protocol.ts";

export interface Place {
  readonly position: Lsn;
  /** Which rows of which history. Those of another form or right are others. */
  readonly meaning: string;
  /** Of the memory that knows the keys which the reader was told, if one does. */
  readonly memory: string | undefined;
}

/** Fixed in width up to the meaning; the index is that of an event inside its commit, of which all are told. */
export function encodePlace({ position, meaning, memory }: Place): string {
  const text = `${position.toString(16).padStart(16, "0")}_00000000_${meaning}`;
  return memory === undefined ? text : `${text}.${memory}`;
}

export function decodePlace(offset: string): Place {
  const [, position, meaning, memory] = /^([0-9a-f]{16})_0{8}_([\w-]+)(?:\.([\w-]+))?$/.exec(offset) ?? [];
  if (position !== undefined) return { position: BigInt(`0x${position}`) as Lsn, meaning: meaning!, memory };
  throw new WalcastError("malformed_message", "read an offset: expected -1, now, or one that came in an answer");
}
