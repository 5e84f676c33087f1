/** What arrays are compared by. Elements are equal where their bytes are, up to the end that their type gives them. */
import assert from "node:assert/strict";
import { type ArrayText, parseArray } from "./array-literal.ts";
import { ByteMap, equalBytes } from "./bytes.ts";
import type { ValueType } from "./type.ts";

interface ReadArray extends ArrayText {
  values?: { readonly read: (element: Buffer) => unknown; readonly elements: readonly unknown[] };
  /** The different elements by this type, once somebody has looked for one. */
  places?: { readonly values: ValueType; readonly byElement: ByteMap<number> };
}

// A constant's text is one object for all rows: it is read once.
const constants = new WeakMap<Buffer, ReadArray>();

export function constantArray(text: Buffer): Buffer {
  constants.set(text, arrayIn(text));
  return text;
}

/** Its elements, as `read` gives them; the same function gives the same. */
export function elementsRead<T>(text: Buffer, read: (element: Buffer) => T): readonly (T | null)[] {
  const array = arrayIn(text);
  if (array.values?.read !== read)
    array.values = { read, elements: array.elements.map((element) => element && read(element)) };
  return array.values.elements as readonly (T | null)[];
}

/** An array's text, as a row or a constant has it. */
export function arrayIn(text: Buffer): ReadArray {
  return constants.get(text) ?? arrayOfRow(text);
}

// All predicates about a column ask about one row in turn.
let last: { readonly text: Buffer; readonly array: ReadArray } | undefined;
/** It is kept until the next one comes, whenever that is. */
const keptBytesMax = 65_536;

function arrayOfRow(text: Buffer): ReadArray {
  if (text.length > keptBytesMax) return readArray(text);
  if (last && text.equals(last.text)) return last.array;
  // The row's bytes are not ours to keep.
  const kept = Buffer.from(text);
  last = { text: kept, array: readArray(kept) };
  return last.array;
}

function readArray(text: Buffer): ReadArray {
  const array = parseArray(text);
  assert(array, "an array from a row or a checked constant can be read");
  return array;
}

/** Also by dimensions and where they begin to count; NULL is as good as any other element. */
export function equalArrays(a: Buffer, b: Buffer, values: ValueType): boolean {
  const [left, right] = [arrayIn(a), arrayIn(b)];
  return (
    left.elements.length === right.elements.length &&
    left.bounds.length === right.bounds.length &&
    left.bounds.every(
      ({ lower, length }, i) => lower === right.bounds[i]!.lower && length === right.bounds[i]!.length,
    ) &&
    left.elements.every((element, i) => equalElements(element, right.elements[i]!, values))
  );
}

/** NULL is contained in nothing. */
export function containsArray(a: Buffer, b: Buffer, values: ValueType): boolean {
  const wanted = arrayIn(b);
  if (wanted.elements.length === 0) return true;
  if (wanted.elements.includes(null)) return false;
  const places = placesOf(wanted, values);
  const found = new Set<number>();
  for (const element of arrayIn(a).elements) {
    const place = placeOf(places, element, values);
    if (place !== undefined) found.add(place);
  }
  return found.size === places.size;
}

export function overlaps(a: Buffer, b: Buffer, values: ValueType): boolean {
  const places = placesOf(arrayIn(b), values);
  return arrayIn(a).elements.some((element) => placeOf(places, element, values) !== undefined);
}

/** null where there is no such dimension. */
export function lengthIn(array: Buffer, dimension: bigint): bigint | null {
  const bound = dimension > 0n ? arrayIn(array).bounds[Number(dimension) - 1] : undefined;
  return bound ? BigInt(bound.length) : null;
}

function placesOf(array: ReadArray, values: ValueType): ByteMap<number> {
  if (array.places?.values === values) return array.places.byElement;
  const byElement = new ByteMap<number>();
  array.elements.forEach((element, i) => element && byElement.set(compared(element, values), i));
  array.places = { values, byElement };
  return byElement;
}

function placeOf(places: ByteMap<number>, element: Buffer | null, values: ValueType): number | undefined {
  return element ? places.get(element, 0, values.end(element, 0, element.length)) : undefined;
}

function equalElements(a: Buffer | null, b: Buffer | null, values: ValueType): boolean {
  if (a === null || b === null) return a === b;
  return equalBytes(a, 0, values.end(a, 0, a.length), compared(b, values));
}

/** The part that decides equality. */
function compared(element: Buffer, values: ValueType): Buffer {
  return element.subarray(0, values.end(element, 0, element.length));
}
