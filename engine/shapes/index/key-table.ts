/**
 * Keys with a V each, in slots that are found by the key's hash; collisions go to the next free slot. At a million keys the time goes
 * into fetching memory, so a look-up touches little of it: a slot, which has the key itself in it where that is short, and the
 * value, whose place follows from the slot's and does not wait for it.
 */

/** A key: the first `count` words. No key is the beginning of another one, and none begins with `isElsewhere` or has 0 for all words. */
export interface Words {
  readonly words: Int32Array;
  readonly count: number;
  /** Of these words; never 0. */
  readonly hash: number;
}

// Of each slot: the key's hash, 0 where the slot is empty, and the key with zeros behind it; or, of a longer key, `isElsewhere`,
// where it begins in `long` and how many words it has. A slot is half a line of the processor's cache.
const slotSize = 8;
const shortMax = slotSize - 1;
const isElsewhere = -1;

export class KeyTable<V> {
  private slots: Int32Array;
  private values: (V | undefined)[];
  private mask: number;
  private long = new Int32Array(0);
  private longEnd = 0;
  /** Words in `long` whose key is gone. */
  private longLost = 0;
  private count = 0;

  /** A power of two. */
  constructor(slotCount: number) {
    this.slots = new Int32Array(slotCount * slotSize);
    this.values = emptyValues(slotCount);
    this.mask = slotCount - 1;
  }

  get slotCount(): number {
    return this.mask + 1;
  }

  /** Whether a look-up may take more than a few steps: there has to be more room. */
  get isCrowded(): boolean {
    return this.count * 3 > this.slotCount * 2;
  }

  get(key: Words): V | undefined {
    return this.values[this.find(key)];
  }

  /** Has memory fetched that `get` will look at. Says something about it, as what nobody wants to know is not fetched. */
  fetch({ hash }: Words): number {
    const slot = hash & this.mask;
    return this.slots[slot * slotSize]! + (this.values[slot] === undefined ? 0 : 1);
  }

  /** Whether the key is new. */
  set(key: Words, value: V): boolean {
    const slot = this.find(key);
    this.values[slot] = value;
    if (this.slots[slot * slotSize] !== 0) return false;
    this.write(slot * slotSize, key);
    this.count++;
    return true;
  }

  /** Whether it was there. */
  delete(key: Words): boolean {
    const slot = this.find(key);
    const at = slot * slotSize;
    if (this.slots[at] === 0) return false;
    if (this.slots[at + 1] === isElsewhere) this.longLost += this.slots[at + 3]!;
    this.count--;
    this.closeGap(slot);
    return true;
  }

  double(): void {
    const { slots, values } = this;
    this.mask = this.mask * 2 + 1;
    this.slots = new Int32Array(slots.length * 2);
    this.values = emptyValues(values.length * 2);
    for (let slot = 0; slot < values.length; slot++)
      if (slots[slot * slotSize] !== 0) this.move(slots, slot * slotSize, values[slot]);
  }

  /** Two of the same size: keys whose hash has the bit are in the second one. */
  divided(bit: number): [KeyTable<V>, KeyTable<V>] {
    const halves: [KeyTable<V>, KeyTable<V>] = [new KeyTable(this.slotCount), new KeyTable(this.slotCount)];
    for (let slot = 0; slot < this.slotCount; slot++) {
      const hash = this.slots[slot * slotSize]!;
      if (hash !== 0) halves[(hash >>> bit) & 1]!.take(this, slot);
    }
    return halves;
  }

  /** The key's slot, or the empty one where it would go. There is always one. */
  private find(key: Words): number {
    const { slots, mask } = this;
    const { hash } = key;
    let slot = hash & mask;
    for (;;) {
      const at = slot * slotSize;
      const found = slots[at];
      if (found === 0 || (found === hash && this.hasKey(at + 1, key))) return slot;
      slot = (slot + 1) & mask;
    }
  }

  /** Zeros behind a shorter key need no look: the longer one would begin with it. */
  private hasKey(at: number, { words, count }: Words): boolean {
    const { slots } = this;
    if (count > shortMax)
      return slots[at] === isElsewhere && this.hasLongKey(slots[at + 1]!, slots[at + 2]!, words, count);
    for (let i = 0; i < count; i++) if (slots[at + i] !== words[i]) return false;
    return true;
  }

  private hasLongKey(from: number, length: number, words: Int32Array, count: number): boolean {
    const { long } = this;
    if (length !== count) return false;
    for (let i = 0; i < count; i++) if (long[from + i] !== words[i]) return false;
    return true;
  }

  private write(at: number, { words, count, hash }: Words): void {
    const { slots } = this;
    slots[at] = hash;
    if (count <= shortMax) for (let i = 0; i < shortMax; i++) slots[at + 1 + i] = i < count ? words[i]! : 0;
    else this.writeLong(at + 1, words, count);
  }

  private writeLong(at: number, words: Int32Array, count: number): void {
    if (this.longEnd + count > this.long.length) this.makeRoom(count);
    for (let i = 0; i < count; i++) this.long[this.longEnd + i] = words[i]!;
    this.slots[at] = isElsewhere;
    this.slots[at + 1] = this.longEnd;
    this.slots[at + 2] = count;
    this.longEnd += count;
  }

  /** Copies the long keys that are left into an array with as much room again. */
  private makeRoom(more: number): void {
    const kept = new Int32Array((this.longEnd - this.longLost + more) * 2);
    let end = 0;
    for (let at = 0; at < this.slots.length; at += slotSize) {
      if (this.slots[at] === 0 || this.slots[at + 1] !== isElsewhere) continue;
      const from = this.slots[at + 2]!;
      kept.set(this.long.subarray(from, from + this.slots[at + 3]!), end);
      this.slots[at + 2] = end;
      end += this.slots[at + 3]!;
    }
    this.long = kept;
    this.longEnd = end;
    this.longLost = 0;
  }

  private take({ slots, values, long }: KeyTable<V>, slot: number): void {
    const at = this.move(slots, slot * slotSize, values[slot]) * slotSize;
    this.count++;
    if (this.slots[at + 1] !== isElsewhere) return;
    const from = this.slots[at + 2]!;
    const length = this.slots[at + 3]!;
    this.writeLong(at + 1, long.subarray(from, from + length), length);
  }

  /** Gives the slot where it is now. */
  private move(from: Int32Array, at: number, value: V | undefined): number {
    let slot = from[at]! & this.mask;
    while (this.slots[slot * slotSize] !== 0) slot = (slot + 1) & this.mask;
    for (let i = 0; i < slotSize; i++) this.slots[slot * slotSize + i] = from[at + i]!;
    this.values[slot] = value;
    return slot;
  }

  /** A look-up ends at the first empty slot, so those behind a new gap move into it where their own place allows. */
  private closeGap(gap: number): void {
    const { mask, slots, values } = this;
    for (let slot = (gap + 1) & mask; slots[slot * slotSize] !== 0; slot = (slot + 1) & mask) {
      const home = slots[slot * slotSize]! & mask;
      const isBetween = gap < slot ? home > gap && home <= slot : home > gap || home <= slot;
      if (isBetween) continue;
      slots.copyWithin(gap * slotSize, slot * slotSize, (slot + 1) * slotSize);
      values[gap] = values[slot];
      gap = slot;
    }
    slots[gap * slotSize] = 0;
    values[gap] = undefined;
  }
}

function emptyValues<V>(count: number): (V | undefined)[] {
  return Array.from<V | undefined>({ length: count }).fill(undefined);
}
