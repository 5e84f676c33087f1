/** A result that follows its driver's keys as they change, between two whole results. */
import type { Changed, Key } from "../changed.ts";
import type { Run } from "../postgres-session.ts";
import { type Entry, entriesOf, type RowChanges, type Shown } from "../delta.ts";
import { keyText } from "../reduce.ts";
import type { Row } from "../row.ts";
import { type RawResult, type RowDecoder, textOf } from "../rows.ts";
import { type Index, merge } from "./merge.ts";
import { compareRows } from "./order.ts";
import type { Plan } from "./plan.ts";
import { along } from "./routes.ts";

/** The driver's keys that changed, and what gives those that other tables' changes reach. */
export interface Reach {
  readonly keys: ReadonlyMap<string, Key>;
  readonly runs: readonly Run[];
}

const noKeys: ReadonlyMap<string, Key> = new Map();

export class Incremental {
  /** Infinity where the query has none. */
  readonly limit: number;
  private readonly plan: Plan;
  private readonly values: readonly (string | null)[];
  private readonly decode: RowDecoder;
  /** Of `current`, made when it is first needed. */
  private index: Index | undefined;
  /** What is shown, and what has been merged into it. */
  private current: Shown | undefined;
  /** What was shown under each key that has been merged since. */
  private readonly before = new Map<string, Entry | undefined>();

  /** `values`: the query's parameters, as text. */
  constructor(plan: Plan, values: readonly (string | null)[], decode: RowDecoder) {
    this.plan = plan;
    this.values = values;
    this.decode = decode;
    this.limit = limitOf(plan, values);
  }

  /** Undefined where the keys in one of its tables are unknown, or no index leads from them to the driver's. */
  reach(changed: Changed): Reach | undefined {
    const { driver, routes } = this.plan;
    const keys = changed.has(driver) ? changed.keysOf(driver) : noKeys;
    const runs: Run[] = [];
    for (const { table, sql } of routes) {
      if (!changed.has(table)) continue;
      const changedKeys = changed.keysOf(table);
      if (!changedKeys || sql === undefined) return undefined;
      runs.push(along(sql, [...changedKeys.values()]));
    }
    return keys && { keys, runs };
  }

  /** What to ask for; undefined where asking for everything is better. */
  restrictedTo(keys: ReadonlyMap<string, Key>): Run | undefined {
    return this.plan.restriction.to([...keys.values()], this.values);
  }

  /** Why some changes make it run again. */
  get why(): string | undefined {
    const route = this.plan.routes.find(({ why }) => why !== undefined);
    return route && `it runs again when ${route.table} changes, as ${route.why}`;
  }

  get isJoin(): boolean {
    return this.plan.routes.length > 0;
  }

  /** False where only the whole query has the answer. */
  take(shown: Shown, keys: ReadonlyMap<string, Key>, result: RawResult): boolean {
    const { order } = this.plan;
    this.current ??= shown;
    this.index ??= this.indexOf(this.current.entries);
    const keyOf = (entry: Entry): string => this.keyOf(entry);
    const to = { shown: this.current, index: this.index, keyOf, order, limit: this.limit };
    const merged = merge(to, keys.keys(), this.indexOf(entriesOf(result, this.decode)));
    if (!merged) return false;
    this.current = merged.shown;
    for (const [key, was] of merged.before) if (!this.before.has(key)) this.before.set(key, was);
    return true;
  }

  get hasNews(): boolean {
    return this.before.size > 0;
  }

  /** What has been merged since `shown` was; undefined if that comes to nothing. */
  news({ rows }: Shown): { shown: Shown; changes: RowChanges } | undefined {
    if (!this.current) return undefined;
    const changes = this.changes();
    this.before.clear();
    const isNew = changes.inserted.length + changes.updated.length + changes.deleted.length > 0;
    if (!isNew) this.current = { ...this.current, rows };
    return isNew ? { shown: this.current, changes } : undefined;
  }

  /** A whole result takes the place of all this. Gives what was shown, whose entries have moved on since. */
  reset(shown: Shown): Shown {
    const { current } = this;
    if (!current) return shown;
    const { rows } = shown;
    const before = this.before.size > 0 ? restored(rows, current, this.before) : { ...current, rows };
    this.current = this.index = undefined;
    this.before.clear();
    return before;
  }

  private changes(): RowChanges {
    const [inserted, updated, deleted]: [Entry[], Entry[], Entry[]] = [[], [], []];
    for (const [key, was] of this.before) {
      const now = this.index?.get(key);
      if (was && !now) deleted.push(was);
      else if (now && now !== was) (was ? updated : inserted).push(now);
    }
    return { inserted: this.inOrder(inserted), updated: this.inOrder(updated), deleted: this.inOrder(deleted) };
  }

  private inOrder(entries: Entry[]): Row[] {
    const { order } = this.plan;
    return entries.sort((a, b) => compareRows(a, b, order)).map(({ row }) => row);
  }

  private indexOf(entries: readonly Entry[]): Index {
    return new Map(entries.map((entry) => [this.keyOf(entry), entry]));
  }

  private keyOf(entry: Entry): string {
    return keyText(this.plan.key.map((column) => textOf(entry, column)));
  }
}

/** Of rows that were shown: an entry is either still there, or was put aside when it went. */
function restored(rows: readonly Row[], current: Shown, before: ReadonlyMap<string, Entry | undefined>): Shown {
  const entries = new Map(current.entries.map((entry) => [entry.row, entry]));
  for (const was of before.values()) if (was) entries.set(was.row, was);
  return { rows, entries: rows.map((row) => entries.get(row)!) };
}

function limitOf({ limit }: Plan, values: readonly (string | null)[]): number {
  if (!limit) return Infinity;
  if ("rows" in limit) return limit.rows;
  const value = values[limit.parameter];
  return value === null || value === undefined ? Infinity : Number(value);
}
