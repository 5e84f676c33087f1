/**
 * The nodes of trees, each a block of the same few arrays: what a look-up reads of a node lies side by side, at a place that follows
 * from the node's number alone. A node is a list of places in order; each has a range, the highest bound of it and of
 * all that is under it, and a value in a leaf or a child in any other node.
 */
import type { Bound, Range } from "./range.ts";

/** Places in a block. */
export const width = 32;

// What is known of a place's lowest and highest bound without looking at them.
const lowIsExact = 1;
const lowIsAfter = 2;
const highIsExact = 4;
const highIsBefore = 8;

export class Blocks<V> {
  /** Of each node the ranks of the places' low bounds, Infinity behind the last, and then those of their highest ones. */
  ranks = new Float64Array(0);
  children = new Int32Array(0);
  private marks = new Uint8Array(0);
  readonly counts: number[] = [];
  /** 0 for a leaf. */
  readonly heights: number[] = [];
  readonly ranges: (Range | undefined)[] = [];
  readonly highest: (Bound | undefined)[] = [];
  readonly values: (V | undefined)[] = [];
  private readonly free: number[] = [];

  allocate(height: number): number {
    const node = this.free.pop() ?? this.counts.length;
    if ((node + 1) * width > this.children.length) this.double();
    this.counts[node] = 0;
    this.heights[node] = height;
    for (let i = this.ranges.length; i < (node + 1) * width; i++)
      this.ranges[i] = this.highest[i] = this.values[i] = undefined;
    this.ranks.fill(Infinity, node * 2 * width, (node * 2 + 1) * width);
    return node;
  }

  release(node: number): void {
    this.free.push(node);
  }

  write(node: number, place: number, range: Range, highest: Bound): void {
    const at = node * width + place;
    this.ranges[at] = range;
    this.highest[at] = highest;
    this.ranks[node * 2 * width + place] = range.low.rank;
    this.ranks[(node * 2 + 1) * width + place] = highest.rank;
    this.marks[at] =
      (range.low.isExact ? lowIsExact : 0) |
      (range.low.side > 0 ? lowIsAfter : 0) |
      (highest.isExact ? highIsExact : 0) |
      (highest.side < 0 ? highIsBefore : 0);
  }

  /** Before `place`, where there is room. To be written. */
  open(node: number, place: number): void {
    this.copy(node, place, node, place + 1, this.counts[node]! - place);
    this.counts[node]!++;
  }

  close(node: number, place: number): void {
    const last = --this.counts[node]!;
    this.copy(node, place + 1, node, place, last - place);
    this.clear(node, last);
  }

  /** The places of a node from `place` on go behind those of another one, where there is room. */
  move(from: number, place: number, to: number): void {
    const count = this.counts[from]! - place;
    this.copy(from, place, to, this.counts[to]!, count);
    this.counts[to]! += count;
    this.counts[from] = place;
    for (let i = place; i < place + count; i++) this.clear(from, i);
  }

  /** Whether a low bound with the rank of an exactly known value is above it; undefined where ranks do not say. */
  isAbove(at: number): boolean | undefined {
    return this.marks[at]! & lowIsExact ? (this.marks[at]! & lowIsAfter) !== 0 : undefined;
  }

  /** The same for the highest bound below it. */
  isBelow(at: number): boolean | undefined {
    return this.marks[at]! & highIsExact ? (this.marks[at]! & highIsBefore) !== 0 : undefined;
  }

  private clear(node: number, place: number): void {
    const at = node * width + place;
    this.ranges[at] = this.highest[at] = this.values[at] = undefined;
    this.ranks[node * 2 * width + place] = Infinity;
  }

  private copy(from: number, place: number, to: number, toPlace: number, count: number): void {
    if (count <= 0) return;
    const [at, into] = [from * width + place, to * width + toPlace];
    const [rankAt, rankInto] = [from * 2 * width + place, to * 2 * width + toPlace];
    this.ranks.copyWithin(rankInto, rankAt, rankAt + count);
    this.ranks.copyWithin(rankInto + width, rankAt + width, rankAt + width + count);
    for (const list of [this.children, this.marks, this.ranges, this.highest, this.values])
      list.copyWithin(into, at, at + count);
  }

  private double(): void {
    const places = Math.max(width, this.children.length * 2);
    this.ranks = grown(this.ranks, new Float64Array(places * 2));
    this.children = grown(this.children, new Int32Array(places));
    this.marks = grown(this.marks, new Uint8Array(places));
  }
}

function grown<A extends { set(from: A): void }>(from: A, into: A): A {
  into.set(from);
  return into;
}
