/**
 * Messages that `walcast.publish` and `walcast.revalidate` emitted. In a transaction, in the log and in its index they are rows
 * of a table that there is not: whatever finds the rows of a table again, or skips them, does the same for messages.
 */
import { WalcastError } from "../errors.ts";
import type { DescribedRelation } from "./transaction.ts";

/** InvalidOid: no table has it. */
export const messagesOid = 0;

export const messagesRelation: DescribedRelation = {
  oid: messagesOid,
  schema: "walcast",
  name: "messages",
  replicaIdentity: "n",
  columns: [],
  signature: "messages",
};

export interface PublishedMessage {
  /** Where the message is published. Absent where it names keys. */
  readonly topic?: string;
  readonly keys?: readonly string[];
  /** Who may have it: whoever has one of them. Null: whoever the topic's rule lets read. */
  readonly scopes: readonly string[] | null;
  /** JSON text: bytes[bodyStart … bodyEnd). */
  readonly bytes: Buffer;
  readonly bodyStart: number;
  readonly bodyEnd: number;
}

const lineBreak = 0x0a;

/** A message's content, which is bytes[start … end), as migrations/0003_messages.ts writes it. */
export function parsePublished(bytes: Buffer, start: number, end: number): PublishedMessage {
  const headEnd = bytes.indexOf(lineBreak, start);
  if (headEnd < 0 || headEnd >= end)
    throw new WalcastError(
      "malformed_message",
      "read a published message: expected a line that says to whom, found none",
    );
  const head = JSON.parse(bytes.toString("utf8", start, headEnd)) as Pick<
    PublishedMessage,
    "topic" | "keys" | "scopes"
  >;
  return { ...head, bytes, bodyStart: headEnd + 1, bodyEnd: end };
}
