import { randomInt } from "node:crypto";

/** Values as bytes inside a larger buffer: equality, a hash, and a table that is asked without copying. */

// Clients choose the values; they shall not be able to choose ones that collide.
const seed = randomInt(2 ** 32);

export function equalBytes(bytes: Uint8Array, start: number, end: number, value: Uint8Array): boolean {
  if (end - start !== value.length) return false;
  for (let i = 0; i < value.length; i++) if (bytes[start + i] !== value[i]) return false;
  return true;
}

/** FNV-1a, cut to 30 bits so that V8 keeps it as a small integer. Never the only test: equal hashes are compared. */
export function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = seed;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return (hash ^ (hash >>> 15)) & 0x3fffffff;
}

/** What a ByteTable holds: whoever puts it in adds fields of their own. `key` must not change while it is in there. */
export interface Keyed<Self> {
  readonly key: Uint8Array;
  /** The table's own: the next one with the same hash. */
  next: Self | undefined;
}

/**
 * Things by their key's bytes, asked with a part of a larger buffer. Their own fields form the chains: at a million keys
 * the time goes into fetching objects from memory, and this fetches few.
 */
export class ByteTable<T extends Keyed<T>> {
  private readonly chains = new Map<number, T>();

  get isEmpty(): boolean {
    return this.chains.size === 0;
  }

  get(bytes: Uint8Array, start: number, end: number): T | undefined {
    let item = this.chains.get(hashBytes(bytes, start, end));
    while (item && !equalBytes(bytes, start, end, item.key)) item = item.next;
    return item;
  }

  /** There must be none with this key yet. */
  add(item: T): void {
    const hash = hashBytes(item.key, 0, item.key.length);
    item.next = this.chains.get(hash);
    this.chains.set(hash, item);
  }

  delete(item: T): void {
    const hash = hashBytes(item.key, 0, item.key.length);
    const rest = without(this.chains.get(hash), item);
    if (rest) this.chains.set(hash, rest);
    else this.chains.delete(hash);
  }
}

function without<T extends Keyed<T>>(first: T | undefined, item: T): T | undefined {
  if (!first || first === item) return first?.next;
  first.next = without(first.next, item);
  return first;
}
