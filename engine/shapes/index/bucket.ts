/**
 * What lies at one place in the index. A value alone, where its predicate has no other place and holds for every row that leads
 * there; otherwise an entry, which the predicate's places share.
 */
import type { Tuple } from "../../changes/tuple.ts";
import type { Residue } from "./residue.ts";

export type Item<T> = T | Entry<T>;
/** Never empty. */
export type Bucket<T> = Item<T> | Set<Item<T>>;

/** A value whose predicate a row led to. */
export interface Candidate<T> {
  readonly value: T;
  /** False where a row that leads here is one that the predicate holds for. */
  readonly needsCheck: boolean;
  /** Whether the predicate holds for a row that led here. Throws EvaluationFailed. */
  holds(row: Tuple): boolean;
}

/** A value whose predicate is not decided by where it lies, or lies in several places. */
export class Entry<T> implements Candidate<T> {
  readonly value: T;
  /** What the place leaves open. */
  readonly residue: Residue | undefined;
  /** The last visit that came here. */
  seen = 0;
  /** It is not wanted any more, and may still lie somewhere. */
  isGone = false;

  constructor(value: T, residue: Residue | undefined) {
    this.value = value;
    this.residue = residue;
  }

  get needsCheck(): boolean {
    return this.residue !== undefined;
  }

  holds(row: Tuple): boolean {
    return this.residue === undefined || this.residue.holds(row, this.seen);
  }
}

/** Any value that lies in the index alone, while it is visited. */
export class Alone<T> implements Candidate<T> {
  readonly needsCheck = false;
  private only: T | undefined = undefined;

  get value(): T {
    return this.only!;
  }

  of(value: T): this {
    this.only = value;
    return this;
  }

  holds(): boolean {
    return true;
  }
}
