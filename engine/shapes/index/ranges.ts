/**
 * Trees of ranges with a value each, asked which of them a value lies in: O(log n), and as much again for each that it finds.
 * Adding and removing are O(log n) too. A tree is known by its root, and all trees of a group share their blocks.
 *
 * They are B+ trees by range, of which each node knows the highest bound under each of its places. Where ranks are
 * equal and do not say enough, the bounds themselves decide.
 */
import { Blocks, width } from "./blocks.ts";
import { type Bound, compareBounds, compareRanges, compareToProbe, type Probe, type Range } from "./range.ts";

export class Ranges<V> {
  private readonly blocks = new Blocks<V>();

  /** A tree of one range. */
  plant(range: Range, value: V): number {
    const root = this.blocks.allocate(0);
    this.put(root, 0, range, value);
    return root;
  }

  /** Where exactly this range is, for `value` and `replace`, until the next change; -1 where it is not. */
  find(root: number, range: Range): number {
    const { children, heights } = this.blocks;
    let node = root;
    while (heights[node]! > 0) node = children[node * width + this.placeOf(node, range)]!;
    const place = this.placeOf(node, range);
    return this.compare(node, place, range) === 0 ? node * width + place : -1;
  }

  value(at: number): V {
    return this.blocks.values[at]!;
  }

  replace(at: number, value: V): void {
    this.blocks.values[at] = value;
  }

  /** The new root. The range must not be there yet. */
  insert(root: number, range: Range, value: V): number {
    const split = this.insertUnder(root, range, value);
    if (split < 0) return root;
    const above = this.blocks.allocate(this.blocks.heights[root]! + 1);
    this.putNode(above, 0, root);
    this.putNode(above, 1, split);
    return above;
  }

  /** The new root; -1 where nothing is left. The range must be there. */
  remove(root: number, range: Range): number {
    const { blocks } = this;
    this.removeUnder(root, range);
    if (blocks.counts[root]! > 1 || (blocks.heights[root] === 0 && blocks.counts[root] === 1)) return root;
    blocks.release(root);
    return blocks.counts[root] === 0 ? -1 : blocks.children[root * width]!;
  }

  /** `visit` must not change any of the trees. */
  stab(root: number, probe: Probe, visit: (value: V) => void): void {
    this.stabUnder(root, this.blocks.heights[root]!, probe, visit);
  }

  private stabUnder(node: number, height: number, probe: Probe, visit: (value: V) => void): void {
    const { children, ranks, values } = this.blocks;
    const { rank } = probe;
    const lows = node * 2 * width;
    const highs = lows + width;
    const first = node * width;
    for (let i = 0; i < width && ranks[lows + i]! <= rank; i++) {
      if (ranks[highs + i]! < rank) continue;
      if (ranks[lows + i] === rank && this.isAbove(first + i, probe)) return;
      if (ranks[highs + i] === rank && this.isBelow(first + i, probe)) continue;
      if (height === 0) visit(values[first + i]!);
      else this.stabUnder(children[first + i]!, height - 1, probe, visit);
    }
  }

  /** A low bound of the probe's rank. */
  private isAbove(at: number, probe: Probe): boolean {
    const isAbove = probe.isExact ? this.blocks.isAbove(at) : undefined;
    if (isAbove !== undefined) return isAbove;
    const { column, low } = this.blocks.ranges[at]!;
    return compareToProbe(column, low, probe) > 0;
  }

  /** A highest bound of the probe's rank. */
  private isBelow(at: number, probe: Probe): boolean {
    const isBelow = probe.isExact ? this.blocks.isBelow(at) : undefined;
    if (isBelow !== undefined) return isBelow;
    return compareToProbe(this.blocks.ranges[at]!.column, this.blocks.highest[at]!, probe) < 0;
  }

  /** The last place that begins at this range or before it; the first where none does. */
  private placeOf(node: number, range: Range): number {
    let from = 0;
    for (let to = this.blocks.counts[node]!; to - from > 1;) {
      const middle = (from + to) >>> 1;
      if (this.compare(node, middle, range) <= 0) from = middle;
      else to = middle;
    }
    return from;
  }

  private compare(node: number, place: number, range: Range): number {
    const difference = this.blocks.ranks[node * 2 * width + place]! - range.low.rank;
    return difference || compareRanges(this.blocks.ranges[node * width + place]!, range);
  }

  /** A node that is to stand behind this one, where it had no room; or -1. */
  private insertUnder(node: number, range: Range, value: V): number {
    const { children, heights } = this.blocks;
    const place = this.placeOf(node, range);
    if (heights[node] === 0) {
      const before = this.compare(node, place, range) < 0 ? place + 1 : place;
      return this.withRoom(node, before, (into, at) => this.put(into, at, range, value));
    }
    const child = children[node * width + place]!;
    const split = this.insertUnder(child, range, value);
    this.note(node, place);
    return split < 0 ? -1 : this.withRoom(node, place + 1, (into, at) => this.putNode(into, at, split));
  }

  /** A node without room is split; at its end, so that ranges which come in order fill it. */
  private withRoom(node: number, place: number, put: (node: number, place: number) => void): number {
    const { blocks } = this;
    if (blocks.counts[node]! < width) {
      put(node, place);
      return -1;
    }
    const kept = place === width ? width : width / 2;
    const behind = blocks.allocate(blocks.heights[node]!);
    blocks.move(node, kept, behind);
    if (place <= kept && kept < width) put(node, place);
    else put(behind, place - kept);
    return behind;
  }

  private removeUnder(node: number, range: Range): void {
    const { blocks } = this;
    const place = this.placeOf(node, range);
    if (blocks.heights[node] === 0) return blocks.close(node, place);
    const child = blocks.children[node * width + place]!;
    this.removeUnder(child, range);
    if (blocks.counts[child] === 0) this.drop(node, place);
    else {
      this.note(node, place);
      this.joinAt(node, Math.min(place, blocks.counts[node]! - 2));
    }
  }

  private drop(node: number, place: number): void {
    this.blocks.release(this.blocks.children[node * width + place]!);
    this.blocks.close(node, place);
  }

  /** Nodes that lost many places would make the tree higher than what is in it needs. */
  private joinAt(node: number, place: number): void {
    if (place < 0) return;
    const { blocks } = this;
    const left = blocks.children[node * width + place]!;
    const right = blocks.children[node * width + place + 1]!;
    if (blocks.counts[left]! + blocks.counts[right]! > width / 2) return;
    blocks.move(right, 0, left);
    this.drop(node, place + 1);
    this.note(node, place);
  }

  private put(node: number, place: number, range: Range, value: V): void {
    this.blocks.open(node, place);
    this.blocks.write(node, place, range, range.high);
    this.blocks.values[node * width + place] = value;
  }

  private putNode(node: number, place: number, child: number): void {
    this.blocks.open(node, place);
    this.blocks.children[node * width + place] = child;
    this.note(node, place);
  }

  /** What is under a place changed. */
  private note(node: number, place: number): void {
    const child = this.blocks.children[node * width + place]!;
    this.blocks.write(node, place, this.blocks.ranges[child * width]!, this.highestIn(child));
  }

  private highestIn(node: number): Bound {
    const { counts, highest, ranges } = this.blocks;
    const first = node * width;
    const { column } = ranges[first]!;
    let most = highest[first]!;
    for (let i = first + 1; i < first + counts[node]!; i++)
      if (compareBounds(column, highest[i]!, most) > 0) most = highest[i]!;
    return most;
  }
}
