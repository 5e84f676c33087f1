/**
 * The predicates of one place in the index. Most places have one, and a Map for each of them would be the larger part of
 * the index.
 */
import type { Predicate } from "../where.ts";

/** A predicate in the index, with the values that have it: it is evaluated once for all of them. */
export class Entry<T> {
  readonly predicate: Predicate;
  /** False where a row that leads here is one that the predicate holds for. */
  needsCheck: boolean;
  /** The last visit that came here: a row may lead to it by several places. */
  seen = 0;
  private values: T | Set<T> | undefined;

  constructor(predicate: Predicate, needsCheck: boolean) {
    this.predicate = predicate;
    this.needsCheck = needsCheck;
  }

  get isEmpty(): boolean {
    return this.values === undefined;
  }

  add(value: T): void {
    if (this.values instanceof Set) this.values.add(value);
    else this.values = this.values === undefined ? value : new Set([this.values, value]);
  }

  delete(value: T): void {
    if (this.values === value) this.values = undefined;
    else if (this.values instanceof Set && this.values.delete(value) && this.values.size === 0) this.values = undefined;
  }

  forEach(visit: (value: T) => void): void {
    if (this.values instanceof Set) this.values.forEach(visit);
    else if (this.values !== undefined) visit(this.values);
  }
}

/** Never empty. */
export type Bucket<T> = Entry<T> | Map<string, Entry<T>>;

export function entryIn<T>(bucket: Bucket<T>, { canonical }: Predicate): Entry<T> | undefined {
  if (bucket instanceof Map) return bucket.get(canonical);
  return bucket.predicate.canonical === canonical ? bucket : undefined;
}

export function withEntry<T>(bucket: Bucket<T> | undefined, entry: Entry<T>): Bucket<T> {
  if (bucket === undefined) return entry;
  if (bucket instanceof Map) return bucket.set(entry.predicate.canonical, entry);
  return new Map([bucket, entry].map((each) => [each.predicate.canonical, each]));
}

/** undefined where nothing is left. */
export function withoutEntry<T>(bucket: Bucket<T>, entry: Entry<T>): Bucket<T> | undefined {
  if (bucket === entry) return undefined;
  if (bucket instanceof Map) bucket.delete(entry.predicate.canonical);
  return bucket instanceof Map && bucket.size === 0 ? undefined : bucket;
}
