/**
 * Conditions that take long to read, by how long they are. What was made of one is kept for as long as a shape has it, and
 * serves all who ask for the same: a short one is made anew whenever somebody needs it, which takes less memory.
 */
import type { Access } from "./access.ts";
import { digestOf } from "./digest.ts";
import type { Node } from "./where/node.ts";

/** Reading takes about a microsecond for each character, so this is half a millisecond. */
const shortMax = 512;

export function isLong(where: string | undefined, ...values: readonly unknown[]): boolean {
  return isLonger([where, ...values], shortMax);
}

/** Whether the JSON of these values is surely longer than so many characters. Takes no longer than such a JSON would. */
export function isLonger(values: readonly unknown[], lengthMax: number): boolean {
  return lengthLeft(values, lengthMax) < 0;
}

/** About how long their JSON is. */
export function lengthOf(values: readonly unknown[]): number {
  return -lengthLeft(values, 0, -Infinity);
}

function lengthLeft(value: unknown, length: number, enough = 0): number {
  if (typeof value !== "object" || value === null) return length - String(value).length;
  const parts: readonly unknown[] = Array.isArray(value) ? value : Object.values(value);
  let left = length;
  for (const part of parts) {
    left = lengthLeft(part, left - 1, enough);
    if (left < enough) break;
  }
  return left;
}

export type LongKey = string & { readonly LongKey: unique symbol };

export function longKey(
  where: string | undefined,
  params: readonly unknown[],
  ruleParams: readonly unknown[],
): LongKey {
  const text = (_: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);
  return digestOf(JSON.stringify([where, params, ruleParams], text)) as LongKey;
}

const keptByAccess = new WeakMap<Access, Map<LongKey, WeakRef<Node>>>();
const gone = new FinalizationRegistry<() => void>((forget) => forget());

export function keptNode(access: Access, key: LongKey): Node | undefined {
  return keptByAccess.get(access)?.get(key)?.deref();
}

export function keepNode(access: Access, key: LongKey, node: Node): void {
  const kept = keptByAccess.get(access) ?? new Map<LongKey, WeakRef<Node>>();
  keptByAccess.set(access, kept);
  const reference = new WeakRef(node);
  kept.set(key, reference);
  gone.register(node, () => kept.get(key) === reference && kept.delete(key));
}
