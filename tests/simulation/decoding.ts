/**
 * The text that `test_decoding` writes → commits. This reads another plugin's output of another slot, and shares nothing
 * with the engine's decoder: what both get wrong, they would have to get wrong independently.
 * https://www.postgresql.org/docs/current/test-decoding.html
 */
import assert from "node:assert/strict";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";

/** A column's text as Postgres writes it; null for NULL; undefined for an out-of-line value that the update left alone. */
type Field = string | null | undefined;
export type Tuple = ReadonlyMap<string, Field>;

export type Change =
  | { readonly kind: "insert"; readonly table: string; readonly row: Tuple }
  | { readonly kind: "update"; readonly table: string; readonly old: Tuple | undefined; readonly row: Tuple }
  | { readonly kind: "delete"; readonly table: string; readonly old: Tuple }
  | { readonly kind: "truncate"; readonly tables: readonly string[] }
  | { readonly kind: "message"; readonly content: string };

export interface DecodedCommit {
  /** Where its commit record ends. */
  readonly end: Lsn;
  readonly xid: string;
  readonly changes: readonly Change[];
}

export interface DecodedLine {
  readonly lsn: string;
  readonly data: string;
}

/** Lines of whole transactions, as `pg_logical_slot_get_changes` gives them. `prefix`: of the messages that are ours. */
export function decodeLines(lines: Iterable<DecodedLine>, prefix: string): DecodedCommit[] {
  const commits: DecodedCommit[] = [];
  let changes: Change[] = [];
  for (const { lsn, data } of lines) {
    if (data.startsWith("BEGIN ")) changes = [];
    else if (data.startsWith("COMMIT ")) commits.push({ end: parseLsn(lsn), xid: data.slice(7), changes });
    else changes.push(...decodeChange(data, prefix));
  }
  return commits;
}

function decodeChange(data: string, prefix: string): Change[] {
  if (data.startsWith("message:")) return decodeOwnMessage(data, prefix);
  const parts = /^table (.+?): (INSERT|UPDATE|DELETE|TRUNCATE):/s.exec(data);
  assert(parts, `expected a line of test_decoding, found ${data.slice(0, 80)}`);
  const [head, table, kind] = parts as unknown as [string, string, string];
  const rest = data.slice(head.length);
  if (kind === "TRUNCATE") return [{ kind: "truncate", tables: table.split(", ") }];
  if (kind === "INSERT") return [{ kind: "insert", table, row: new Fields(rest).read() }];
  if (kind === "DELETE") return [{ kind: "delete", table, old: new Fields(rest).read() }];
  return [{ kind: "update", table, ...decodeUpdate(rest) }];
}

function decodeOwnMessage(data: string, prefix: string): Change[] {
  const parts = /^message: transactional: 1 prefix: (.*?), sz: \d+ content:/s.exec(data);
  return parts?.[1] === prefix ? [{ kind: "message", content: data.slice(parts[0].length) }] : [];
}

function decodeUpdate(rest: string): { old: Tuple | undefined; row: Tuple } {
  const marker = " old-key:";
  if (!rest.startsWith(marker)) return { old: undefined, row: new Fields(rest).read() };
  const fields = new Fields(rest.slice(marker.length));
  const old = fields.read(" new-tuple:");
  return { old, row: fields.read() };
}

/** ` name[type]:value`, one after another. */
class Fields {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** Up to the end, or to the marker, which is then passed. */
  read(marker?: string): Tuple {
    const fields = new Map<string, Field>();
    while (this.at < this.text.length) {
      if (marker !== undefined && this.text.startsWith(marker, this.at)) {
        this.at += marker.length;
        break;
      }
      this.take(" ");
      if (this.text.startsWith("(no-tuple-data)", this.at)) throw new Error("a row without a replica identity");
      const name = this.text[this.at] === '"' ? this.quoted('"') : this.upTo("[");
      this.take("[");
      this.upTo("]:");
      this.take("]:");
      fields.set(name, this.value());
    }
    return fields;
  }

  private value(): Field {
    if (this.text[this.at] === "'") return this.quoted("'");
    const bits = this.text.startsWith("B'", this.at);
    if (bits) this.at++;
    if (bits) return this.quoted("'");
    const space = this.text.indexOf(" ", this.at);
    const token = this.text.slice(this.at, space < 0 ? this.text.length : space);
    this.at += token.length;
    return tokens.has(token) ? tokens.get(token) : token;
  }

  private quoted(mark: string): string {
    const from = ++this.at;
    for (;;) {
      this.at = this.text.indexOf(mark, this.at) + 1;
      assert(this.at > 0, "expected the end of a quoted value");
      if (this.text[this.at] !== mark) break;
      this.at++;
    }
    return this.text.slice(from, this.at - 1).replaceAll(mark + mark, mark);
  }

  private upTo(stop: string): string {
    const end = this.text.indexOf(stop, this.at);
    assert(end >= 0, `expected ${stop} in ${this.text.slice(this.at, this.at + 40)}`);
    const text = this.text.slice(this.at, end);
    this.at = end;
    return text;
  }

  private take(expected: string): void {
    assert(
      this.text.startsWith(expected, this.at),
      `expected ${expected} in ${this.text.slice(this.at, this.at + 40)}`,
    );
    this.at += expected.length;
  }
}

/** What test_decoding writes without quotes and Postgres otherwise. */
const tokens = new Map<string, Field>([
  ["null", null],
  ["unchanged-toast-datum", undefined],
  ["true", "t"],
  ["false", "f"],
]);
