/**
 * What places in the index leave open of predicates. Thousands of shapes that ask for one customer each, and for orders that are
 * not archived, have one residue: a row is asked about it once, however many of them it leads to.
 */
import type { Tuple } from "../../changes/tuple.ts";
import { digestOf } from "../digest.ts";
import { type Predicate, predicateFrom } from "../where.ts";
import type { Node } from "../where/node.ts";

export class Residue {
  readonly digest: string;
  /** How many predicates leave it open. */
  users = 0;
  private readonly predicate: Predicate;
  /** Of the last row that was asked about. */
  private visit = 0;
  private verdict = false;

  constructor(digest: string, predicate: Predicate) {
    this.digest = digest;
    this.predicate = predicate;
  }

  /** Within one visit the row is the same. Throws EvaluationFailed. */
  holds(row: Tuple, visit: number): boolean {
    if (this.visit === visit) return this.verdict;
    this.verdict = this.predicate.matches(row) === true;
    this.visit = visit;
    return this.verdict;
  }
}

export class Residues {
  private readonly byDigest = new Map<string, Residue>();

  /** `source` gives a node with this SQL whenever it is asked, and is kept. */
  use({ sql }: Node, source: { readonly node: Node }): Residue {
    const digest = digestOf(sql);
    let residue = this.byDigest.get(digest);
    if (!residue) this.byDigest.set(digest, (residue = new Residue(digest, predicateFrom(source))));
    residue.users++;
    return residue;
  }

  release(residue: Residue | undefined): void {
    if (residue && --residue.users === 0) this.byDigest.delete(residue.digest);
  }
}
