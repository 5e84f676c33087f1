/**
 * Which predicates may hold for a row, at a cost that follows the number of those that do and not of those that exist.
 * A predicate is filed under the places where it can hold (index/cover.ts); places that look at the same columns lie
 * together and cost a row one look-up. What can hold anywhere is kept in a list that is tried for each row.
 *
 * The caller's obligations: a value has one predicate at a time, and a row carries, as text or NULL, every column that
 * any predicate in here reads. Then each value whose predicate holds is visited exactly once; others may be visited too, and
 * then `needsCheck` is true.
 */
import type { Tuple } from "../changes/tuple.ts";
import { Alone, type Bucket, type Candidate, Entry, type Item } from "./index/bucket.ts";
import { isAnywhere, type Place, placesOf, type Point, restOf } from "./index/cover.ts";
import { Filing } from "./index/filing.ts";
import { type Group, groupFor, type Spot } from "./index/group.ts";
import { isBounded } from "./index/range.ts";
import { type Residue, Residues } from "./index/residue.ts";
import { inSlices } from "./index/slices.ts";
import { isReadable } from "./where/column.ts";
import type { Node } from "./where/node.ts";
import type { Predicate } from "./where.ts";

/** With more places than this, a predicate is put into the index and taken out of it little by little, */
const placesAtOnceMax = 256;
/** where there are more such predicates than this: a few of them are as well tried for every row. */
const triedMax = 8;

/** So many combinations of columns are looked up for a row; what comes later is filed under one of its columns. */
const combinationsMax = 64;

export class PredicateIndex<T> {
  private readonly groups = new Map<string, Group<T>>();
  /** The same, to go through. */
  private list: readonly Group<T>[] = [];
  private readonly anywhere = new Set<Item<T>>();
  /** Of the values that do not lie in a place by themselves. */
  private readonly entries = new Map<T, Entry<T>>();
  /** Of the values whose predicate has thousands of places. */
  private readonly filings = new Map<T, Filing<T>>();
  private readonly residues = new Residues();
  private visits = 0;
  private readonly alone = new Alone<T>();
  private visit: (candidate: Candidate<T>) => void = () => {};

  /** How many predicates are evaluated for every row; equal ones are evaluated once. */
  get unindexed(): number {
    const residues = new Set<Residue>();
    for (const item of this.anywhere) if (item instanceof Entry && item.residue) residues.add(item.residue);
    return residues.size;
  }

  add(predicate: Predicate, value: T): void {
    const { node } = predicate;
    const places = placesOf(node);
    if (places.length === 0) return;
    if (places.length > placesAtOnceMax && !places.some(isAnywhere))
      return this.addLittleByLittle(predicate, places, value);
    const spots = places.some(isAnywhere) ? [] : this.spotsFor(places);
    const residue = this.residueOf(
      predicate,
      node,
      places.every((place, i) => covers(spots[i], place)),
    );
    if (!residue && areApart(spots)) return this.file(spots, value);
    const entry = new Entry<T>(value, residue);
    this.entries.set(value, entry);
    this.file(spots, entry);
  }

  delete(predicate: Predicate, value: T): void {
    const filing = this.filings.get(value);
    if (filing) return this.deleteLittleByLittle(filing, value);
    const places = placesOf(predicate.node);
    const entry = this.entries.get(value);
    this.unfile(places, entry ?? value);
    this.entries.delete(value);
    this.residues.release(entry?.residue);
  }

  /** The rows that `candidates` will be asked about next, each by its place among them: what they need is fetched at once. */
  expect(rows: readonly Tuple[], count: number): void {
    const { list } = this;
    for (let i = 0; i < list.length; i++) list[i]!.expect(rows, count);
  }

  /** `visit` must not keep the candidate, nor change the index or ask it. */
  candidates(row: Tuple, place: number, visit: (candidate: Candidate<T>) => void): void {
    this.visits++;
    this.visit = visit;
    const { list, visitBucket } = this;
    for (let i = 0; i < list.length; i++) list[i]!.candidates(row, place, visitBucket);
    if (this.anywhere.size > 0) visitBucket(this.anywhere);
  }

  private readonly visitBucket = (bucket: Bucket<T>): void => {
    if (bucket instanceof Set) bucket.forEach(this.visitItem);
    else this.visitItem(bucket);
  };

  private readonly visitItem = (item: Item<T>): void => {
    if (item instanceof Entry) return this.visitOnce(item);
    this.visit(this.alone.of(item));
  };

  private visitOnce(entry: Entry<T>): void {
    if (entry.seen === this.visits || entry.isGone) return;
    entry.seen = this.visits;
    this.visit(entry);
  }

  /** Until it lies in all of its places it is tried for every row. */
  private addLittleByLittle(predicate: Predicate, places: readonly Place[], value: T): void {
    const filing = new Filing(new Entry<T>(value, this.residues.use(predicate.node, predicate)), places);
    this.filings.set(value, filing);
    this.anywhere.add(filing.entry);
    if (this.filings.size > triedMax) this.goOn(filing);
  }

  private deleteLittleByLittle(filing: Filing<T>, value: T): void {
    const { entry } = filing;
    this.filings.delete(value);
    this.anywhere.delete(entry);
    this.residues.release(entry.residue);
    entry.isGone = true;
    filing.isWanted = false;
    this.goOn(filing);
  }

  private goOn(filing: Filing<T>): void {
    if (filing.isUnderWay || filing.isDone) return;
    filing.isUnderWay = true;
    inSlices(() => {
      const { entry } = filing;
      filing.step(
        (places) => this.file(this.spotsFor(places), entry),
        (places) => this.unfile(places, entry),
      );
      filing.isUnderWay = !filing.isDone;
      if (filing.isDone) this.anywhere.delete(entry);
      return filing.isUnderWay;
    });
  }

  private residueOf(predicate: Predicate, node: Node, isCovered: boolean): Residue | undefined {
    if (!isCovered) return this.residues.use(node, predicate);
    const rest = restOf(node);
    if (!rest || rest === node) return rest && this.residues.use(node, predicate);
    return this.residues.use(rest, new Rest(predicate));
  }

  /** The best one of each place, while there is room for its group. */
  private spotsFor(places: readonly Place[]): readonly Spot[] {
    const added = new Set<string>();
    return places.map((place) => {
      const [best, single = best] = spotsOf(place);
      const name = nameOf(best);
      if (!this.groups.has(name) && this.groups.size + added.size >= combinationsMax) return single;
      if (!this.groups.has(name)) added.add(name);
      return best;
    });
  }

  /** No spots: it can be anywhere. */
  private file(spots: readonly Spot[], item: Item<T>): void {
    if (spots.length === 0) this.anywhere.add(item);
    for (const spot of spots) this.group(spot).add(spot, item);
  }

  private group(spot: Spot): Group<T> {
    const name = nameOf(spot);
    let group = this.groups.get(name);
    if (!group) {
      this.groups.set(name, (group = groupFor(spot)));
      this.list = [...this.groups.values()];
    }
    return group;
  }

  private unfile(places: readonly Place[], item: Item<T>): void {
    this.anywhere.delete(item);
    // It lies at the first spot of each place, or, where there was no room for that, at the second.
    for (const spot of places.filter((place) => !isAnywhere(place)).flatMap(spotsOf)) this.deleteAt(spot, item);
  }

  private deleteAt(spot: Spot, item: Item<T>): void {
    const name = nameOf(spot);
    const group = this.groups.get(name);
    group?.delete(spot, item);
    // An empty one would still be asked for every row.
    if (group?.isEmpty && this.groups.delete(name)) this.list = [...this.groups.values()];
  }
}

// ── Where in a place ─────────────────────────────────────────────────────────────────────────────────────────────────

/** All its values and one range, which finds the fewest; and one column alone, where that is something else. */
function spotsOf({ points, ranges }: Place): [Spot] | [Spot, Spot] {
  const range = ranges.find(isBounded) ?? ranges[0];
  const best: Spot = { points, range };
  if (points.length + (range ? 1 : 0) === 1) return [best];
  const single = points.reduce((one, other) => (spread(other) > spread(one) ? other : one));
  return [best, { points: [single], range: undefined }];
}

/** Into how many parts the column's values divide the rows, roughly. */
function spread({ column, value }: Point): number {
  if (value === null || !isReadable(column) || column.values.name === "boolean") return 2;
  return column.values.name === "enum" ? 10 : 1000;
}

/** No row leads to two of them: they have values of the same columns, which are other ones or lie at one place. */
function areApart(spots: readonly Spot[]): boolean {
  return (
    spots.length === 1 ||
    (spots.length > 0 && spots.every(({ range }) => !range) && new Set(spots.map(nameOf)).size === 1)
  );
}

/** Whether a row that leads to the spot is in the place, and the place says all that it could. */
function covers(spot: Spot | undefined, { isWhole, points, ranges }: Place): boolean {
  return isWhole && ranges.length <= 1 && (spot?.points.length ?? 0) === points.length && spot?.range === ranges[0];
}

/** Made again when it is needed, as the predicate's own node is. */
class Rest {
  private readonly predicate: Predicate;

  constructor(predicate: Predicate) {
    this.predicate = predicate;
  }

  get node(): Node {
    return restOf(this.predicate.node)!;
  }
}

/** Spots with one name look at the same columns. */
function nameOf({ points, range }: Spot): string {
  return `${points.map(({ column }) => column.position).join(",")}|${range?.column.position ?? ""}`;
}
