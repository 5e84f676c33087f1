/**
 * What lies at one place in the index. A value alone, where its predicate has no other place and holds for every row that leads
 * there; otherwise an entry, which the predicate's places share.
 */
import type { Tuple } from "../../changes/tuple.ts";
import type { Predicate } from "../where.ts";
import { eachOf, type Few, withOne, withoutOne } from "./few.ts";

export type Item<T> = T | Entry<T>;
/** Never empty. */
export type Bucket<T> = Item<T> | Set<Item<T>>;

/** A predicate, and who has it. */
export interface Candidate<T> {
  /** False where a row that leads here is one that the predicate holds for. */
  readonly needsCheck: boolean;
  /** Whether the predicate holds for a row that led here. */
  holds(row: Tuple): boolean;
  forEach(visit: (value: T) => void): void;
}

/** A predicate that is evaluated once for all values that have it, or that a row may lead to by several places. */
export class Entry<T> implements Candidate<T> {
  /** undefined where there is nothing to check. */
  private readonly check: Predicate | undefined;
  /** What equal predicates have in common; only where there is something to check. */
  readonly digest: string;
  /** The last visit that came here. */
  seen = 0;
  private values: Few<T> = undefined;

  constructor(check: Predicate | undefined, digest: string) {
    this.check = check;
    this.digest = digest;
  }

  get needsCheck(): boolean {
    return this.check !== undefined;
  }

  get isEmpty(): boolean {
    return this.values === undefined;
  }

  holds(row: Tuple): boolean {
    return this.check === undefined || this.check.matches(row) === true;
  }

  add(value: T): void {
    this.values = withOne(this.values, value);
  }

  delete(value: T): void {
    this.values = withoutOne(this.values, value);
  }

  forEach(visit: (value: T) => void): void {
    eachOf(this.values, visit);
  }
}

/** Any value that lies in the index alone, while it is visited. */
export class Alone<T> implements Candidate<T> {
  readonly needsCheck = false;
  value: T | undefined = undefined;

  holds(): boolean {
    return true;
  }

  forEach(visit: (value: T) => void): void {
    visit(this.value!);
  }
}
