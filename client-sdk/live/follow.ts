/**
 * Brings live queries up to date by changed rows alone, all of them together: in one round trip where keys of the tables
 * that they follow have changed, in two where these have to be found first, from keys of the tables that are joined to them.
 */
import type { Changed, Key } from "../changed.ts";
import type { Database, Run } from "../database.ts";
import { keyText } from "../reduce.ts";
import { type RawResult, textOf } from "../rows.ts";
import { Replies, replyTags } from "../wire.ts";
import { attempt } from "./attempt.ts";
import type { Query } from "./query.ts";
import { REACHED_MAX } from "./routes.ts";

/** Those for which that was enough. */
export function follow(database: Database, queries: readonly Query[], changed: Changed): Set<Query> {
  const started = performance.now();
  const wanted = reachedFrom(database, queries, changed).flatMap(({ query, keys }) => {
    const run = query.restrictedTo(keys);
    return run ? [{ query, keys, run }] : [];
  });
  const runs = wanted.map(({ run }) => run);
  const results = together(database, runs);
  const ms = (performance.now() - started) / wanted.length;
  const merged = wanted.filter(({ query, keys }, i) => results?.[i] && query.merge(keys, results[i], ms));
  return new Set(merged.map(({ query }) => query));
}

function together(database: Database, runs: readonly Run[]): readonly RawResult[] | undefined {
  return runs.length === 0 ? [] : attempt(() => database.lookUps(runs));
}

// ── From joined tables ───────────────────────────────────────────────────────────────────────────────────────────────

interface Reached {
  readonly query: Query;
  readonly keys: ReadonlyMap<string, Key>;
}

/** Those whose keys are known, and few enough. */
function reachedFrom(database: Database, queries: readonly Query[], changed: Changed): Reached[] {
  const reaches = queries.flatMap((query) => {
    const reach = query.reach(changed);
    return reach ? [{ query, ...reach }] : [];
  });
  const runs = reaches.flatMap((reach) => reach.runs);
  const results = together(database, runs);
  let taken = 0;
  return reaches.flatMap(({ query, keys, runs: { length } }) => {
    const own = results?.slice(taken, (taken += length)) ?? [];
    if (length === 0) return [{ query, keys }];
    const all = own.length === length ? union(keys, own) : undefined;
    return all && query.isCheaperToFollow(all.size) ? [{ query, keys: all }] : [];
  });
}

function union(keys: ReadonlyMap<string, Key>, results: readonly RawResult[]): ReadonlyMap<string, Key> | undefined {
  const all = new Map(keys);
  for (const result of results) for (const key of keysIn(result)) all.set(keyText(key), key);
  return all.size > REACHED_MAX ? undefined : all;
}

function keysIn({ bytes, statement }: RawResult): Key[] {
  const keys: Key[] = [];
  const replies = new Replies(bytes);
  while (replies.next())
    if (replies.tag === replyTags.dataRow) keys.push(statement.columns.map((_, i) => textOf(replies, i)));
  return keys;
}
