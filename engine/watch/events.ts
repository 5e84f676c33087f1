/** Rows as Server-Sent Events, encoded once for everybody who gets the same. docs/sse.md describes them. */
import { formatLsn } from "../protocol.ts";
import { encodeEvent } from "../sockets/event-stream.ts";
import type { CommitChanges } from "./reader.ts";
import type { RowChange } from "./rows.ts";
import type { Watch } from "./watch.ts";

/** All rows of a table's shape, as they are. */
export function stateEvent(watch: Watch): Uint8Array {
  return encodedOnce(tables, watch, () => rowsAsJson(watch, 0));
}

/** The one row of a shape, or null. */
export function rowEvent(watch: Watch): Uint8Array {
  return encodedOnce(singles, watch, () => rowAsJson(watch, 0));
}

/** The same of several shapes, in a list. */
export function rowsEvent(watch: Watch): Uint8Array {
  return encodedOnce(lists, watch, () => `[${watch.indexes.map((index) => rowAsJson(watch, index)).join(",")}]`);
}

type Encoded = WeakMap<Watch, { readonly version: number; readonly bytes: Uint8Array }>;
const tables: Encoded = new WeakMap();
const singles: Encoded = new WeakMap();
const lists: Encoded = new WeakMap();

function encodedOnce(encoded: Encoded, watch: Watch, data: () => string): Uint8Array {
  const known = encoded.get(watch);
  if (known?.version === watch.version) return known.bytes;
  const bytes = Buffer.from(encodeEvent({ event: "state", id: watch.position, data: data() }));
  encoded.set(watch, { version: watch.version, bytes });
  return bytes;
}

/** One event a row, and `commit` when that was all. */
export function commitEvents(watch: Watch, commit: CommitChanges): Uint8Array {
  const known = commits.get(commit);
  if (known) return known;
  const id = formatLsn(commit.position);
  const asJson = watch.asJson(0);
  const changes = commit.shapes.flatMap((one) => one.changes);
  const events = changes.map((change) => encodeEvent({ event: kindOf(change), id, data: asJson(rowOf(change)) }));
  const end = encodeEvent({ event: "commit", id, data: JSON.stringify({ position: id, rows: changes.length }) });
  const bytes = Buffer.from(`${events.join("")}${end}`);
  commits.set(commit, bytes);
  return bytes;
}

const commits = new WeakMap<CommitChanges, Uint8Array>();

function rowsAsJson(watch: Watch, index: number): string {
  const asJson = watch.asJson(index);
  return `[${Array.from(watch.rows(index), asJson).join(",")}]`;
}

function rowAsJson(watch: Watch, index: number): string {
  const [row] = watch.rows(index);
  return row ? watch.asJson(index)(row) : "null";
}

function kindOf({ before, after }: RowChange): "insert" | "update" | "delete" {
  if (!before) return "insert";
  return after ? "update" : "delete";
}

function rowOf({ before, after }: RowChange): NonNullable<RowChange["before"]> {
  return (after ?? before)!;
}
