/**
 * Which predicates may hold for a row, at a cost that follows the number of those that do and not of those that exist.
 * A predicate is filed under the places where it can hold (index/cover.ts); places that look at the same columns lie
 * together and cost a row one look-up. What can hold anywhere is kept in a list that is tried for each row.
 *
 * The caller's obligations: a value has one predicate at a time, and a row carries, as text or NULL, every column that
 * any predicate in here reads. Then each predicate that holds is visited exactly once; others may be visited too, and
 * then `needsCheck` is true. Equal predicates are one, with several values.
 */
import type { Tuple } from "../changes/tuple.ts";
import { type Bucket, Entry } from "./index/bucket.ts";
import { isAnywhere, type Place, placesOf, type Point } from "./index/cover.ts";
import { type Group, groupFor, type Spot } from "./index/group.ts";
import { isBounded } from "./index/range.ts";
import { isReadable } from "./where/column.ts";
import type { Predicate } from "./where.ts";

/** A predicate, and who has it. */
export type Candidate<T> = Pick<Entry<T>, "predicate" | "needsCheck" | "forEach">;

/** So many combinations of columns are looked up for a row; what comes later is filed under one of its columns. */
const combinationsMax = 64;

export class PredicateIndex<T> {
  private readonly groups = new Map<string, Group<T>>();
  /** The same, to go through. */
  private list: readonly Group<T>[] = [];
  private readonly residue = new Map<string, Entry<T>>();
  private visits = 0;

  /** How many predicates are evaluated for every row. */
  get unindexed(): number {
    let count = 0;
    for (const { needsCheck } of this.residue.values()) if (needsCheck) count++;
    return count;
  }

  add(predicate: Predicate, value: T): void {
    const places = placesOf(predicate.node);
    const entry = this.find(predicate, places) ?? this.file(predicate, places);
    entry.add(value);
  }

  delete(predicate: Predicate, value: T): void {
    const places = placesOf(predicate.node);
    const entry = this.find(predicate, places);
    entry?.delete(value);
    if (entry?.isEmpty) this.unfile(places, entry);
  }

  /** `visit` must not change the index nor ask it. */
  candidates(row: Tuple, visit: (candidate: Candidate<T>) => void): void {
    const visits = ++this.visits;
    const visitBucket = (bucket: Bucket<T>): void => {
      if (bucket instanceof Entry) visitOnce(bucket, visits, visit);
      else for (const entry of bucket.values()) visitOnce(entry, visits, visit);
    };
    for (const group of this.list) group.candidates(row, visitBucket);
    for (const entry of this.residue.values()) visit(entry);
  }

  private find(predicate: Predicate, [place]: readonly Place[]): Entry<T> | undefined {
    if (!place || isAnywhere(place)) return this.residue.get(predicate.canonical);
    for (const spot of spotsOf(place)) {
      const entry = this.groups.get(nameOf(spot))?.find(spot, predicate);
      if (entry) return entry;
    }
    return undefined;
  }

  private file(predicate: Predicate, places: readonly Place[]): Entry<T> {
    const entry = new Entry<T>(predicate, !places.every(isDecidedBySpot));
    if (places.some(isAnywhere)) this.residue.set(predicate.canonical, entry);
    else for (const place of places) this.fileAt(place, entry);
    return entry;
  }

  private fileAt(place: Place, entry: Entry<T>): void {
    const [best, single] = spotsOf(place);
    const spot = single && !this.hasRoomFor(best) ? single : best;
    if (spot !== best) entry.needsCheck = true;
    this.group(spot).add(spot, entry);
  }

  private hasRoomFor(spot: Spot): boolean {
    return this.groups.has(nameOf(spot)) || this.groups.size < combinationsMax;
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

  private unfile(places: readonly Place[], entry: Entry<T>): void {
    this.residue.delete(entry.predicate.canonical);
    // It lies at the first spot of each place, or, where there was no room for that, at the second.
    for (const spot of places.filter((place) => !isAnywhere(place)).flatMap(spotsOf)) this.deleteAt(spot, entry);
  }

  private deleteAt(spot: Spot, entry: Entry<T>): void {
    const name = nameOf(spot);
    const group = this.groups.get(name);
    group?.delete(spot, entry);
    // An empty one would still be asked for every row.
    if (group?.isEmpty && this.groups.delete(name)) this.list = [...this.groups.values()];
  }
}

function visitOnce<T>(entry: Entry<T>, visits: number, visit: (candidate: Candidate<T>) => void): void {
  if (entry.seen === visits) return;
  entry.seen = visits;
  visit(entry);
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

function isDecidedBySpot({ isExact, ranges }: Place): boolean {
  return isExact && ranges.length <= 1;
}

/** Spots with one name look at the same columns. */
function nameOf({ points, range }: Spot): string {
  return `${points.map(({ column }) => column.position).join(",")}|${range?.column.position ?? ""}`;
}
