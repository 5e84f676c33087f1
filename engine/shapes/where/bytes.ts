import { randomInt } from "node:crypto";

/** Values as bytes inside a larger buffer: equality, a hash, and a map from them that is asked without copying. */

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

/** A map from bytes to V that is asked with a part of a larger buffer. Adding and deleting touch one chain. */
export class ByteMap<V> {
  private readonly chains = new Map<number, Link<V>>();

  get(bytes: Uint8Array, start: number, end: number): V | undefined {
    let link = this.chains.get(hashBytes(bytes, start, end));
    while (link && !equalBytes(bytes, start, end, link.key)) link = link.next;
    return link?.value;
  }

  /** `key` must not be in the map yet, and must not change while it is. */
  add(key: Uint8Array, value: V): void {
    const hash = hashBytes(key, 0, key.length);
    this.chains.set(hash, { key, value, next: this.chains.get(hash) });
  }

  delete(key: Uint8Array): void {
    const hash = hashBytes(key, 0, key.length);
    const rest = without(this.chains.get(hash), key);
    if (rest) this.chains.set(hash, rest);
    else this.chains.delete(hash);
  }

  get isEmpty(): boolean {
    return this.chains.size === 0;
  }
}

interface Link<V> {
  readonly key: Uint8Array;
  readonly value: V;
  next: Link<V> | undefined;
}

function without<V>(first: Link<V> | undefined, key: Uint8Array): Link<V> | undefined {
  if (!first || equalBytes(key, 0, key.length, first.key)) return first?.next;
  first.next = without(first.next, key);
  return first;
}
