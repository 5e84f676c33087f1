import { randomInt } from "node:crypto";

/** Values as bytes inside a larger buffer: equality, a hash, and a map that is asked without copying. */

// Clients choose the values; they shall not be able to choose ones that collide.
const seed = randomInt(2 ** 32);

export function equalBytes(bytes: Uint8Array, start: number, end: number, value: Uint8Array): boolean {
  if (end - start !== value.length) return false;
  for (let i = 0; i < value.length; i++) if (bytes[start + i] !== value[i]) return false;
  return true;
}

/** FNV-1a. Never the only test: where hashes are equal, the bytes are compared. Never 0. */
export function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = seed;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return (hash ^ (hash >>> 15)) | 0x40000000;
}

// Per slot: the key's hash (0: empty), where it begins in `keys`, its length, and where its value is.
const slotSize = 4;
const slotsAtFirst = 8;

/**
 * A map from bytes to V, asked with a part of a larger buffer. At a million keys the time goes into fetching memory, so
 * what a look-up touches lies together: a slot, the key, the value; an object for each key took twice as long. Grows as
 * JavaScript's own Map does, by doubling; collisions go to the next free slot.
 */
export class ByteMap<V> {
  private slots = new Int32Array(slotsAtFirst * slotSize);
  private mask = slotsAtFirst - 1;
  private keys = Buffer.alloc(64);
  private keysEnd = 0;
  /** Bytes in `keys` whose key is gone. */
  private keysLost = 0;
  private readonly values: (V | undefined)[] = [];
  private readonly freeValues: number[] = [];

  get size(): number {
    return this.values.length - this.freeValues.length;
  }

  get(bytes: Uint8Array, start: number, end: number): V | undefined {
    const slot = this.find(bytes, start, end, hashBytes(bytes, start, end));
    return this.slots[slot] === 0 ? undefined : this.values[this.slots[slot + 3]!];
  }

  set(key: Uint8Array, value: V): void {
    const hash = hashBytes(key, 0, key.length);
    const slot = this.find(key, 0, key.length, hash);
    if (this.slots[slot] !== 0) this.values[this.slots[slot + 3]!] = value;
    else this.insert(slot, hash, key, value);
  }

  delete(key: Uint8Array): void {
    const slot = this.find(key, 0, key.length, hashBytes(key, 0, key.length));
    if (this.slots[slot] === 0) return;
    const at = this.slots[slot + 3]!;
    this.values[at] = undefined;
    this.freeValues.push(at);
    this.keysLost += key.length;
    this.closeGap(slot);
  }

  /** The key's slot, or the empty one where it would go. There is always one. */
  private find(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const { slots, mask } = this;
    let slot = (hash & mask) * slotSize;
    while (slots[slot] !== 0 && !(slots[slot] === hash && this.hasKey(slot, bytes, start, end)))
      slot = this.after(slot);
    return slot;
  }

  private hasKey(slot: number, bytes: Uint8Array, start: number, end: number): boolean {
    const { keys, slots } = this;
    const length = end - start;
    if (slots[slot + 2] !== length) return false;
    const from = slots[slot + 1]!;
    for (let i = 0; i < length; i++) if (keys[from + i] !== bytes[start + i]) return false;
    return true;
  }

  private after(slot: number): number {
    return (slot + slotSize) & (this.slots.length - 1);
  }

  private insert(slot: number, hash: number, key: Uint8Array, value: V): void {
    const at = this.freeValues.pop() ?? this.values.length;
    this.values[at] = value;
    this.write(slot, hash, this.storeKey(key), key.length, at);
    if (this.size * 2 > this.mask) this.double();
  }

  private write(slot: number, hash: number, keyStart: number, keyLength: number, at: number): void {
    this.slots[slot] = hash;
    this.slots[slot + 1] = keyStart;
    this.slots[slot + 2] = keyLength;
    this.slots[slot + 3] = at;
  }

  private storeKey(key: Uint8Array): number {
    if (this.keysEnd + key.length > this.keys.length) this.makeRoom(key.length);
    this.keys.set(key, this.keysEnd);
    this.keysEnd += key.length;
    return this.keysEnd - key.length;
  }

  /** Copies the keys that are left into a buffer with as much room again. */
  private makeRoom(bytes: number): void {
    const kept = Buffer.alloc((this.keysEnd - this.keysLost + bytes) * 2);
    let end = 0;
    for (let slot = 0; slot < this.slots.length; slot += slotSize) {
      if (this.slots[slot] === 0) continue;
      const start = this.slots[slot + 1]!;
      this.slots[slot + 1] = end;
      end += this.keys.copy(kept, end, start, start + this.slots[slot + 2]!);
    }
    this.keys = kept;
    this.keysEnd = end;
    this.keysLost = 0;
  }

  private double(): void {
    const old = this.slots;
    this.slots = new Int32Array(old.length * 2);
    this.mask = this.mask * 2 + 1;
    for (let from = 0; from < old.length; from += slotSize) if (old[from] !== 0) this.move(old, from);
  }

  private move(from: Int32Array, slot: number): void {
    let to = (from[slot]! & this.mask) * slotSize;
    while (this.slots[to] !== 0) to = this.after(to);
    this.write(to, from[slot]!, from[slot + 1]!, from[slot + 2]!, from[slot + 3]!);
  }

  /** A look-up ends at the first empty slot, so those behind a new gap move into it where their own place allows. */
  private closeGap(gap: number): void {
    const { slots } = this;
    for (let slot = this.after(gap); slots[slot] !== 0; slot = this.after(slot)) {
      const home = (slots[slot]! & this.mask) * slotSize;
      const isBetween = gap < slot ? home > gap && home <= slot : home > gap || home <= slot;
      if (isBetween) continue;
      slots.copyWithin(gap, slot, slot + slotSize);
      gap = slot;
    }
    slots[gap] = 0;
  }
}
