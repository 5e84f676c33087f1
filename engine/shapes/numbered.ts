/**
 * Entries of one table by small numbers, and what routing needs of them in arrays by these numbers. Among a million entries the
 * time goes into fetching memory, and each entry, its shape, and what that shares with others lie somewhere else: routing looks
 * at none of them.
 */
import type { ShapeEntry } from "./entry.ts";
import type { Findings } from "./findings.ts";
import type { Numbers } from "./numbers.ts";
import { beginPayloads, type PayloadWriter } from "./payload.ts";

/** What is sent of a row, and how. Many shapes share one. */
export interface Sent {
  /** Positions in the table's columns, ascending. */
  readonly columns: readonly number[];
  /** Whole old rows in changes. */
  readonly changes: boolean;
}

export class Numbered<Subscriber, Of> {
  private readonly key: readonly number[];
  private readonly payloadBytesMax: number;
  private readonly entries: (ShapeEntry<Subscriber, Of> | undefined)[] = [];
  private readonly sent: Sent[] = [];
  /** Where each is among those that routing touched, if it did. */
  private places = new Int32Array(8);
  /** The number of the change whose old row was found to match: spares a set per change. */
  private changes = new Float64Array(8);
  private readonly free: number[] = [];
  /** Of no use, but that it was fetched. */
  fetched = 0;

  constructor(key: readonly number[], payloadBytesMax: number) {
    this.key = key;
    this.payloadBytesMax = payloadBytesMax;
  }

  add(entry: ShapeEntry<Subscriber, Of>, sent: Sent): void {
    const number = this.free.pop() ?? this.entries.length;
    entry.number = number;
    this.entries[number] = entry;
    this.sent[number] = sent;
    if (number >= this.places.length) this.double();
  }

  delete({ number }: ShapeEntry<Subscriber, Of>): void {
    this.entries[number] = undefined;
    this.free.push(number);
  }

  entry(number: number): ShapeEntry<Subscriber, Of> {
    return this.entries[number]!;
  }

  sentOf(number: number): Sent {
    return this.sent[number]!;
  }

  note(number: number, change: number): void {
    this.changes[number] = change;
  }

  /** The change that was noted last. */
  noted(number: number): number {
    return this.changes[number]!;
  }

  /** What `writer` of these waits for is memory: here they wait together. */
  fetch(numbers: Numbers): void {
    const { entries, places, sent } = this;
    let said = 0;
    for (let i = 0; i < numbers.count; i++) {
      const number = numbers.at(i);
      said += places[number]! + (entries[number] === undefined ? 1 : 0) + (sent[number] === undefined ? 1 : 0);
    }
    this.fetched = said;
  }

  /** Where what these transactions change of it is written. */
  writer(number: number, { touched, writers }: Findings<Subscriber>): PayloadWriter {
    const entry = this.entries[number]!;
    const place = this.places[number]!;
    // The place may be one of an earlier time.
    if (place < touched.length && touched[place] === entry) return writers[place]!;
    const writer = beginPayloads(this.sent[number]!.columns, this.key, this.payloadBytesMax);
    this.places[number] = touched.length;
    touched.push(entry);
    writers.push(writer);
    return writer;
  }

  private double(): void {
    const { places, changes } = this;
    this.places = new Int32Array(places.length * 2);
    this.places.set(places);
    this.changes = new Float64Array(changes.length * 2);
    this.changes.set(changes);
  }
}
