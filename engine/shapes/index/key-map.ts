/**
 * A map from keys to V that grows in small steps, as adding a key must not wait for a million others. It consists of tables, each
 * with the keys whose hashes have some bits in common. One that is full is divided in two, by one more bit, which takes about a
 * tenth of a millisecond: extendible hashing.
 */
import { randomInt } from "node:crypto";
import { KeyTable, type Words } from "./key-table.ts";

const slotsAtFirst = 8;
/** A table's slots are found by the bits of a hash below it, and tables by those from it on. */
const firstBit = 12;
const bitsMax = 18;
/** Of one table. */
const slotsMax = 1 << firstBit;

export class KeyMap<V> {
  /** By as many bits as any table has in common: one with fewer stands in several places. */
  private tables = [new KeyTable<V>(slotsAtFirst)];
  private mask = 0;
  /** How many bits the keys of each table have in common. */
  private readonly bits = new Map([[this.tables[0]!, 0]]);
  private count = 0;
  /** Of no use, but that it was fetched. */
  fetched = 0;

  get size(): number {
    return this.count;
  }

  get(key: Words): V | undefined {
    return this.table(key.hash).get(key);
  }

  /** What `get` of these keys waits for is memory: here they wait together. */
  fetch(keys: readonly Words[], count: number): void {
    let said = 0;
    for (let i = 0; i < count; i++) said += this.table(keys[i]!.hash).fetch(keys[i]!);
    this.fetched = said;
  }

  set(key: Words, value: V): void {
    const table = this.table(key.hash);
    if (!table.set(key, value)) return;
    this.count++;
    if (table.isCrowded) this.makeRoom(table, key.hash);
  }

  delete(key: Words): void {
    if (this.table(key.hash).delete(key)) this.count--;
  }

  private table(hash: number): KeyTable<V> {
    return this.tables[(hash >>> firstBit) & this.mask]!;
  }

  private makeRoom(table: KeyTable<V>, hash: number): void {
    const bits = this.bits.get(table)!;
    if (table.slotCount < slotsMax || bits === bitsMax) table.double();
    else this.divide(table, bits, hash >>> firstBit);
  }

  private divide(table: KeyTable<V>, bits: number, place: number): void {
    const bit = 1 << bits;
    if (this.tables.length === bit) this.tables = [...this.tables, ...this.tables];
    this.mask = this.tables.length - 1;
    const [without, having] = table.divided(firstBit + bits);
    for (let i = place & (bit - 1); i < this.tables.length; i += bit) this.tables[i] = i & bit ? having : without;
    this.bits.delete(table);
    this.bits.set(without, bits + 1).set(having, bits + 1);
  }
}

// Clients choose the values; they shall not be able to choose ones that collide.
const seed = randomInt(2 ** 32);
const first = randomInt(2 ** 31) * 2 + 1;
const second = randomInt(2 ** 31) * 2 + 1;

/** Never the only test: where hashes are equal, the keys are compared. Never 0. */
export function hashOf(words: Int32Array, count: number): number {
  let hash = seed | 0;
  for (let i = 0; i < count; i++) {
    hash = Math.imul(hash ^ words[i]!, first);
    hash = Math.imul(hash ^ (hash >>> 15), second);
    hash ^= hash >>> 13;
  }
  return hash | 0x40000000;
}
