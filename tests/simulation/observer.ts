/**
 * Looks at a client's replica after every turn that anybody had on it: what it sees is what an application can ever see.
 * It reads the rows of all shapes and the position in one go, by a protocol of its own, and judges nothing.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { ShapeStatus } from "../../client-sdk/index.ts";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import type { Access, Asked } from "./filter.ts";
import { hashFields } from "./row-hash.ts";

export interface ObservedShape extends Asked {
  readonly status: ShapeStatus;
  /** Under one of these: which, only the server knows yet. */
  readonly access: readonly Access[];
  /** There was another token lately: its rows may have had to leave before there were others. */
  readonly mayBeEmpty: boolean;
}

export interface ObservedTable {
  readonly name: string;
  readonly shapes: readonly ObservedShape[];
  readonly columns: readonly string[];
  readonly count: number;
  readonly hash: number;
  /** As they stand in DataRow messages. */
  readonly rows: readonly Uint8Array[];
}

export interface Observation {
  readonly client: string;
  readonly number: number;
  readonly position: Lsn;
  readonly tables: readonly ObservedTable[];
  /** What the client had last done, for a message that says what is wrong. */
  readonly doing: string;
}

/** `shapes`: those that the client has now. `observed` gets every state; an unreadable one is thrown to whoever had the turn. */
export function observe(
  pglite: PGlite,
  shapes: () => readonly ObservedShape[],
  observed: (position: Lsn, tables: readonly ObservedTable[]) => void,
): void {
  // Both are how PGlite itself gives turns: queries of applications and the client's own work pass through here.
  const gate = pglite as unknown as { _runExclusiveQuery<T>(work: () => Promise<T>): Promise<T> };
  const original = gate._runExclusiveQuery.bind(pglite);
  let before = "";
  gate._runExclusiveQuery = (work) =>
    original(async () => {
      const result = await work();
      before = look(pglite, shapes(), before, observed);
      return result;
    });
}

/** Nothing is read where nothing was written and no shape changed its status. */
function look(
  pglite: PGlite,
  shapes: readonly ObservedShape[],
  before: string,
  observed: (position: Lsn, tables: readonly ObservedTable[]) => void,
): string {
  const isShown = ({ status }: ObservedShape): boolean => status === "ready" || status === "resyncing";
  const shown = Map.groupBy(shapes, ({ table }) => table);
  for (const [table, ofTable] of shown) if (!ofTable.some(isShown)) shown.delete(table);
  if (shown.size === 0) return before;
  const [written] = run(pglite, "select pg_snapshot_xmax(pg_current_snapshot())");
  const state = JSON.stringify([textOf(written!.rows[0]!), [...shown]]);
  if (state === before) return before;
  const names = [...shown.keys()];
  const results = run(
    pglite,
    ["select position from walcast.position", ...names.map((name) => `select * from ${name}`)].join(";"),
  );
  const position = parseLsn(textOf(results[0]!.rows[0]!));
  observed(
    position,
    names.map((name, i) => ({ name, shapes: shown.get(name)!, ...results[i + 1]!, ...digest(results[i + 1]!.rows) })),
  );
  return state;
}

function digest(rows: readonly Uint8Array[]): { count: number; hash: number } {
  return { count: rows.length, hash: rows.reduce((sum, row) => sum + hashFields(row), 0) };
}

// ── The protocol, as far as it is needed ─────────────────────────────────────────────────────────────────────────────

interface Result {
  readonly columns: readonly string[];
  readonly rows: readonly Uint8Array[];
}

/** One simple query of several statements. */
function run(pglite: PGlite, sql: string): Result[] {
  const chunks: Uint8Array[] = [];
  const text = Buffer.from(`${sql}\0`);
  const message = Buffer.alloc(5 + text.length);
  message[0] = "Q".charCodeAt(0);
  message.writeInt32BE(4 + text.length, 1);
  text.copy(message, 5);
  // It has run before it returns its promise.
  pglite
    .execProtocolRawStream(message, { syncToFs: false, onRawData: (chunk) => void chunks.push(chunk.slice()) })
    .catch(() => {});
  return read(Buffer.concat(chunks), sql);
}

function read(bytes: Buffer, sql: string): Result[] {
  const results: Result[] = [];
  let columns: string[] = [];
  let rows: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    const tag = String.fromCharCode(bytes[at]!);
    const body = bytes.subarray(at + 5, at + 1 + bytes.readInt32BE(at + 1));
    if (tag === "T") [columns, rows] = [readColumns(body), []];
    if (tag === "D") rows.push(body.subarray(2));
    if (tag === "C") results.push({ columns, rows });
    if (tag === "E") throw new Error(`look at the replica: ${body.toString("utf8").replaceAll("\0", " ")} (${sql})`);
  }
  return results;
}

function readColumns(body: Buffer): string[] {
  const names: string[] = [];
  for (let at = 2, i = body.readInt16BE(0); i > 0; i--) {
    const end = body.indexOf(0, at);
    names.push(body.toString("utf8", at, end));
    at = end + 19;
  }
  return names;
}

/** The first field's. */
function textOf(row: Uint8Array): string {
  return fieldsOf(row)[0] ?? "";
}

export function fieldsOf(row: Uint8Array): (string | null)[] {
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.byteLength);
  const fields: (string | null)[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readInt32BE(at);
    at += 4;
    fields.push(length < 0 ? null : bytes.toString("utf8", at, at + length));
    at += Math.max(length, 0);
  }
  return fields;
}
