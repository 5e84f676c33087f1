/**
 * Trees of ranges, each asked which of its ranges a value lies in: O(log n), and as much again for each that it finds.
 * Adding and removing are O(log n) too. A tree is known by its root, 0 while it is empty, and all trees share one array,
 * so that a tree of one range costs no more than its node.
 *
 * Each is a treap: a binary tree by range, and a heap by priorities that nobody can foresee, which keeps it balanced whatever is
 * added in whatever order. A node also knows the highest bound under it. What a descent reads of a node lies together, in
 * one line of the processor's cache.
 */
import type { ReadColumn } from "../where/column.ts";
import { type Bound, compareBounds, compareRanges, compareToProbe, type Probe, type Range } from "./range.ts";
import { rank } from "./rank.ts";

// Of each node: the ranks of its bounds, the rank of the highest bound under it and whose that is, its children, its priority.
const nodeSize = 8;
const LOW = 0;
const HIGH = 1;
const MOST = 2;
const MOST_NODE = 3;
const LEFT = 4;
const RIGHT = 5;
const PRIORITY = 6;

export class Intervals<V> {
  private readonly column: ReadColumn;
  private nodes = new Float64Array(4 * nodeSize);
  private readonly ranges: (Range | undefined)[] = [undefined];
  private readonly values: (V | undefined)[] = [undefined];
  private readonly free: number[] = [];
  private readonly probe: Probe = { rank: 0, bytes: Buffer.alloc(0), start: 0, end: 0 };

  constructor(column: ReadColumn) {
    this.column = column;
  }

  /** The node of exactly this range; 0 where there is none. */
  find(root: number, range: Range): number {
    let node = root;
    while (node !== 0) {
      const order = compareRanges(range, this.ranges[node]!);
      if (order === 0) return node;
      node = this.nodes[node * nodeSize + (order < 0 ? LEFT : RIGHT)]!;
    }
    return 0;
  }

  value(node: number): V {
    return this.values[node]!;
  }

  replace(node: number, value: V): void {
    this.values[node] = value;
  }

  /** The new root. The range must not be there yet. */
  insert(root: number, range: Range, value: V): number {
    return this.insertUnder(root, this.create(range, value));
  }

  /** The new root. */
  remove(root: number, node: number): number {
    const after = this.removeUnder(root, node, this.ranges[node]!);
    this.ranges[node] = this.values[node] = undefined;
    this.free.push(node);
    return after;
  }

  /** The value is that of the bytes: canonical, as a row has it. `visit` must not change any of the trees nor ask them. */
  stab(root: number, bytes: Buffer, start: number, end: number, visit: (value: V) => void): void {
    const { probe } = this;
    probe.rank = rank(this.column.values, bytes, start, end);
    probe.bytes = bytes;
    probe.start = start;
    probe.end = end;
    this.stabUnder(root, visit);
  }

  private stabUnder(root: number, visit: (value: V) => void): void {
    const { nodes } = this;
    for (let node = root; node !== 0;) {
      const at = node * nodeSize;
      if (this.order(nodes[at + MOST]!, nodes[at + MOST_NODE]!, HIGH) < 0) return;
      if (nodes[at + LEFT] !== 0) this.stabUnder(nodes[at + LEFT]!, visit);
      if (this.order(nodes[at + LOW]!, node, LOW) > 0) return;
      if (this.order(nodes[at + HIGH]!, node, HIGH) >= 0) visit(this.values[node]!);
      node = nodes[at + RIGHT]!;
    }
  }

  /** How a node's bound, whose rank is known, compares to what is asked for. */
  private order(boundRank: number, node: number, side: typeof LOW | typeof HIGH): number {
    if (boundRank !== this.probe.rank) return boundRank - this.probe.rank;
    const range = this.ranges[node]!;
    return compareToProbe(this.column, side === LOW ? range.low : range.high, this.probe);
  }

  private create(range: Range, value: V): number {
    const node = this.free.pop() ?? this.ranges.length;
    if ((node + 1) * nodeSize > this.nodes.length) this.double();
    this.ranges[node] = range;
    this.values[node] = value;
    const at = node * nodeSize;
    this.nodes[at + LOW] = range.low.rank;
    this.nodes[at + HIGH] = range.high.rank;
    this.nodes[at + PRIORITY] = Math.random();
    this.join(node, 0, 0);
    return node;
  }

  private double(): void {
    const doubled = new Float64Array(this.nodes.length * 2);
    doubled.set(this.nodes);
    this.nodes = doubled;
  }

  private insertUnder(root: number, node: number): number {
    if (root === 0) return node;
    if (this.nodes[node * nodeSize + PRIORITY]! > this.nodes[root * nodeSize + PRIORITY]!)
      return this.join(node, ...this.split(root, this.ranges[node]!));
    const [left, right] = this.children(root);
    return compareRanges(this.ranges[node]!, this.ranges[root]!) < 0
      ? this.join(root, this.insertUnder(left, node), right)
      : this.join(root, left, this.insertUnder(right, node));
  }

  private removeUnder(root: number, node: number, range: Range): number {
    const [left, right] = this.children(root);
    if (root === node) return this.merge(left, right);
    return compareRanges(range, this.ranges[root]!) < 0
      ? this.join(root, this.removeUnder(left, node, range), right)
      : this.join(root, left, this.removeUnder(right, node, range));
  }

  /** What is below the range, and what is above it. */
  private split(root: number, range: Range): [number, number] {
    if (root === 0) return [0, 0];
    const [left, right] = this.children(root);
    if (compareRanges(this.ranges[root]!, range) < 0) {
      const [below, above] = this.split(right, range);
      return [this.join(root, left, below), above];
    }
    const [below, above] = this.split(left, range);
    return [below, this.join(root, above, right)];
  }

  /** Everything in `a` is below everything in `b`. */
  private merge(a: number, b: number): number {
    if (a === 0 || b === 0) return a || b;
    if (this.nodes[a * nodeSize + PRIORITY]! > this.nodes[b * nodeSize + PRIORITY]!)
      return this.join(a, this.nodes[a * nodeSize + LEFT]!, this.merge(this.nodes[a * nodeSize + RIGHT]!, b));
    return this.join(b, this.merge(a, this.nodes[b * nodeSize + LEFT]!), this.nodes[b * nodeSize + RIGHT]!);
  }

  private children(node: number): [number, number] {
    return [this.nodes[node * nodeSize + LEFT]!, this.nodes[node * nodeSize + RIGHT]!];
  }

  /** Gives the node these children, and itself back. */
  private join(node: number, left: number, right: number): number {
    const at = node * nodeSize;
    this.nodes[at + LEFT] = left;
    this.nodes[at + RIGHT] = right;
    this.nodes[at + MOST_NODE] = this.higher(this.higher(node, left), right);
    this.nodes[at + MOST] = this.most(this.nodes[at + MOST_NODE]!).rank;
    return node;
  }

  /** Of a node itself and all under another one, whose bound is the highest. */
  private higher(node: number, under: number): number {
    if (under === 0) return node;
    const other = this.nodes[under * nodeSize + MOST_NODE]!;
    return compareBounds(this.column, this.most(other), this.most(node)) > 0 ? other : node;
  }

  private most(node: number): Bound {
    return this.ranges[node]!.high;
  }
}
