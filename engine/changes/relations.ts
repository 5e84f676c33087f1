/**
 * How rows are laid out, as Postgres last said it: of all tables, or within one transaction that is still running. For
 * the latter it says everything anew, and knows at the commit that everybody has heard it.
 */
import { isDeepStrictEqual } from "node:util";
import type { Relation } from "./pgoutput-message.ts";
import { type DescribedRelation, relationSignature } from "./transaction.ts";

interface Said {
  readonly relation: DescribedRelation;
  /** Later is greater, across all that share a clock. */
  readonly at: number;
}

export class Relations {
  private readonly byOid = new Map<number, Said>();
  private readonly clock: { now: number };
  private readonly parent: Relations | undefined;

  /** With a `parent`: the descriptions of one running transaction, beside everybody's. */
  constructor(parent?: Relations) {
    this.parent = parent;
    this.clock = parent?.clock ?? { now: 0 };
  }

  get(oid: number): DescribedRelation | undefined {
    return this.byOid.get(oid)?.relation;
  }

  /** The same description said again is the same object: two of them mean that the table changed in between. */
  describe(described: Relation): void {
    const relation = { ...described, signature: relationSignature(described.columns) };
    const known = [this.get(relation.oid), this.parent?.get(relation.oid)];
    const same = known.find((one) => isDeepStrictEqual(one, relation));
    this.byOid.set(relation.oid, { relation: same ?? relation, at: ++this.clock.now });
  }

  /** A running transaction has committed: what it said last holds for everybody, unless something was said since. */
  adopt(committed: Relations): void {
    for (const [oid, said] of committed.byOid) if (said.at > (this.byOid.get(oid)?.at ?? 0)) this.byOid.set(oid, said);
  }
}
