/** What the session's replies to several messages at once say: see wire.ts for what each of them is. */
import { WalcastError } from "../engine/protocol.ts";
import { excerpt, failed } from "./query-errors.ts";
import type { RawResult } from "./rows.ts";
import type { Statement } from "./statements.ts";
import { readColumns, readError, readParameterTypes, readText, Replies, replyTags, type ResultColumn } from "./wire.ts";

/** As the tag of COPY says, between those of BEGIN and COMMIT. https://www.postgresql.org/docs/current/protocol-message-formats.html */
export function rowsCopied(bytes: Uint8Array): number {
  const replies = new Replies(bytes);
  while (replies.next()) {
    if (replies.tag !== replyTags.complete) continue;
    const [, count] = /^COPY (\d+)/.exec(readText(bytes, replies.start, replies.end)) ?? [];
    if (count !== undefined) return Number(count);
  }
  throw new WalcastError("invariant", "copy rows: expected PGlite to say how many they were, found that it does not");
}

export function resultsOf(statements: readonly Statement[], bytes: Uint8Array): RawResult[] {
  const results = completedIn(bytes);
  return statements.map((statement, i) => ({ bytes: results[i]!, statement }));
}

/** Where the replies up to the first Sync end. */
export function endOfFirst(bytes: Uint8Array): number {
  const replies = new Replies(bytes);
  while (replies.next() && replies.tag !== replyTags.ready);
  return replies.end;
}

/** What came of each statement. */
function completedIn(bytes: Uint8Array): Uint8Array[] {
  const results: Uint8Array[] = [];
  const replies = new Replies(bytes);
  let start = 0;
  while (replies.next()) {
    if (replies.tag !== replyTags.complete) continue;
    results.push(bytes.subarray(start, replies.end));
    start = replies.end;
  }
  return results;
}

export function described(bytes: Uint8Array, sql: string): Pick<Statement, "parameterTypes" | "columns"> {
  const replies = new Replies(bytes);
  let parameterTypes: number[] = [];
  let columns: ResultColumn[] = [];
  while (replies.next()) {
    if (replies.tag === replyTags.error) throw failed("query_failed", `prepare ${excerpt(sql)}`, readError(replies));
    if (replies.tag === replyTags.parameterDescription) parameterTypes = readParameterTypes(replies);
    if (replies.tag === replyTags.rowDescription) columns = readColumns(replies);
  }
  return { parameterTypes, columns };
}
