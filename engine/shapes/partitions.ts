/**
 * Partitioned tables. Their changes come under the oids of their leaves, whose columns may lie in another order, and a
 * shape asks for the root. Here is who wants the changes of a leaf, and how its rows read as the root's. A table may be a
 * leaf of several roots, one within the other.
 */
import type { Leaf, Table } from "../changes/table.ts";
import type { Message } from "../changes/pgoutput-message.ts";
import { relationSignature } from "../changes/transaction.ts";
import { Tuple } from "../changes/tuple.ts";

/** What routing looks at in an insert, an update or a delete. */
export type RowChange = Pick<Message, "tag" | "oldKind" | "old" | "new">;

export interface LeafOf<Root> {
  readonly root: Root;
  /** The form in which its rows come, while the root is what it is. */
  readonly signature: string;
  /** For each column of the root, where it is in the leaf's rows; undefined where all are where they are in the root's. */
  readonly columns: readonly number[] | undefined;
}

export class Leaves<Root> {
  private readonly byOid = new Map<number, LeafOf<Root>[]>();
  /** How many leaves a root has. */
  private readonly counts = new Map<Root, number>();

  add(table: Table, root: Root): void {
    if (!table.leaves) return;
    this.counts.set(root, table.leaves.length);
    for (const leaf of table.leaves) this.byOid.set(leaf.oid, [...this.of(leaf.oid), leafOf(leaf, table, root)]);
  }

  delete({ leaves = [] }: Table, root: Root): void {
    this.counts.delete(root);
    for (const { oid } of leaves) {
      const left = this.of(oid).filter((leaf) => leaf.root !== root);
      if (left.length > 0) this.byOid.set(oid, left);
      else this.byOid.delete(oid);
    }
  }

  of(oid: number): readonly LeafOf<Root>[] {
    return this.byOid.get(oid) ?? none;
  }

  /** A TRUNCATE of the root names all of its leaves. One of some of them leaves nobody knows which rows. */
  truncated(oids: readonly number[]): { readonly emptied: readonly Root[]; readonly unknown: readonly Root[] } {
    const hits = new Map<Root, number>();
    for (const oid of new Set(oids)) for (const { root } of this.of(oid)) hits.set(root, (hits.get(root) ?? 0) + 1);
    const isEmptied = ([root, count]: [Root, number]): boolean => count === this.counts.get(root);
    const { emptied = [], unknown = [] } = Object.groupBy([...hits], (hit) => (isEmptied(hit) ? "emptied" : "unknown"));
    return { emptied: emptied.map(([root]) => root), unknown: unknown.map(([root]) => root) };
  }
}

const none: readonly never[] = [];

function leafOf<Root>({ columns }: Leaf, table: Table, root: Root): LeafOf<Root> {
  const inLeaf = table.columns.map((_, place) => table.columns[columns.indexOf(place)]!);
  const isSame = columns.every((place, i) => place === i);
  return { root, signature: relationSignature(inLeaf), columns: isSame ? undefined : columns };
}

/** A leaf's change with its columns in the root's order. Valid until the next one, as what it is made of is. */
export class Rearranged implements RowChange {
  tag = 0;
  oldKind: RowChange["oldKind"] = 0;
  readonly old = new Tuple();
  readonly new = new Tuple();

  of(change: RowChange, columns: readonly number[]): this {
    this.tag = change.tag;
    this.oldKind = change.oldKind;
    rearrange(change.old, columns, this.old);
    rearrange(change.new, columns, this.new);
    return this;
  }
}

/** A row of another width is of another form, and stays what it is: nobody reads it. */
function rearrange(from: Tuple, columns: readonly number[], into: Tuple): void {
  into.reset(from.bytes, from.count);
  if (from.count !== columns.length) return;
  for (let i = 0; i < columns.length; i++) {
    const place = columns[i]!;
    into.kinds[i] = from.kinds[place]!;
    into.starts[i] = from.starts[place]!;
    into.ends[i] = from.ends[place]!;
  }
}
