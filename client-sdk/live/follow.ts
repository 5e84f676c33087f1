/**
 * Brings live queries up to date by changed rows alone, all of them together: in one round trip where keys of the tables
 * that they follow have changed, which is that of the changes themselves; in two where these have to be found first, from keys of
 * the tables that are joined to them.
 */
import type { Changed, Key } from "../changed.ts";
import type { Database } from "../database.ts";
import type { Run } from "../postgres-session.ts";
import { keyText } from "../reduce.ts";
import { type RawResult, textOf } from "../rows.ts";
import { Replies, replyTags } from "../wire.ts";
import { attempt } from "../attempt.ts";
import type { Query } from "./query.ts";
import { REACHED_MAX } from "./routes.ts";

interface Reached {
  readonly query: Query;
  readonly keys: ReadonlyMap<string, Key>;
}

/** What is asked for, and for whom. */
export interface Wanted {
  readonly rows: readonly Reached[];
  /** For each of them. */
  readonly runs: readonly Run[];
}

/**
 * What will be asked for after these changes, so that it can go along with them. Undefined where that is not known before,
 * or is not for a few rows.
 */
export function foresee(queries: readonly Query[], changed: Changed): Wanted | undefined {
  const reached: Reached[] = [];
  for (const query of queries) {
    const reach = query.reach(changed);
    if (reach && reach.runs.length > 0) return undefined;
    if (reach) reached.push({ query, keys: reach.keys });
  }
  const wanted = wantedOf(reached);
  return wanted.runs.every(({ isPlannedOnce }) => isPlannedOnce) ? wanted : undefined;
}

/** Those for which that was enough. */
export function follow(database: Database, queries: readonly Query[], changed: Changed, foreseen?: Wanted): Set<Query> {
  const started = performance.now();
  const { rows, runs } = foreseen ?? wantedOf(reachedFrom(database, queries, changed));
  const results = together(database, runs);
  const ms = (performance.now() - started) / rows.length;
  const merged = rows.filter(({ query, keys }, i) => results?.[i] && query.merge(keys, results[i], ms));
  return new Set(merged.map(({ query }) => query));
}

function wantedOf(reached: readonly Reached[]): Wanted {
  const rows: Reached[] = [];
  const runs: Run[] = [];
  for (const one of reached) {
    const run = one.query.restrictedTo(one.keys);
    if (!run) continue;
    rows.push(one);
    runs.push(run);
  }
  return { rows, runs };
}

function together(database: Database, runs: readonly Run[]): readonly RawResult[] | undefined {
  return runs.length === 0 ? [] : attempt(() => database.lookUps(runs));
}

// ── From joined tables ───────────────────────────────────────────────────────────────────────────────────────────────

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
