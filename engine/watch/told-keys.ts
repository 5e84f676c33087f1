/**
 * The keys that readers of Durable Streams were told of. Where the log leads no further from a reader's offset (it does not reach back, the
 * table was truncated or got another form), they say which of its rows are gone. Readers of the same rows have one memory together: it may
 * hold keys that one of them never had, and none that one has is missing where it `covers`.
 */
import { randomBytes } from "node:crypto";
import { type Lsn, zeroLsn } from "../protocol.ts";

export class ToldKeys {
  private readonly bytesMax: number;
  /** By what an offset's rows are rows of; those that were not asked for longest come first. */
  private readonly memories = new Map<string, Memory>();
  private bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** `audience`: who may hear of these keys. */
  of(meaning: string, audience: string): Memory {
    const memory = this.memories.get(meaning) ?? new Memory(audience, (bytes) => this.weigh(meaning, bytes));
    this.memories.delete(meaning);
    this.memories.set(meaning, memory);
    return memory;
  }

  find(id: string | undefined, audience: string): Memory | undefined {
    return [...this.memories.values()].find((memory) => memory.id === id && memory.audience === audience);
  }

  private weigh(meaning: string, bytes: number): void {
    this.bytes += bytes;
    // One that is too large by itself is not in the way of all others.
    if (this.memories.get(meaning)!.bytes > this.bytesMax / 2) this.forget(meaning);
    while (this.bytes > this.bytesMax) this.forget(this.memories.keys().next().value!);
  }

  private forget(meaning: string): void {
    const memory = this.memories.get(meaning)!;
    this.memories.delete(meaning);
    this.bytes -= memory.bytes;
    memory.end();
  }
}

/** Of a key beside its text: the string, and its place in the set. */
const keyBytes = 80;
/** So many that are gone are always remembered. */
const goneMin = 1_000;

export class Memory {
  /** Of no other memory, of this process or another. In the offsets of those that it covers. */
  readonly id = randomBytes(9).toString("base64url");
  readonly audience: string;
  private readonly present = new Set<string>();
  private readonly gone = new Map<string, Lsn>();
  private readonly weigh: (bytes: number) => void;
  private since = zeroLsn;
  private wholeAt = zeroLsn;
  private over = false;
  /** About what it takes. */
  bytes = 0;

  constructor(audience: string, weigh: (bytes: number) => void) {
    this.audience = audience;
    this.weigh = weigh;
  }

  /** A reader has a row with this key. */
  tell(key: string): void {
    if (this.over || this.present.has(key)) return;
    this.present.add(key);
    if (!this.gone.delete(key)) this.add(key, 1);
  }

  /** No reader at this position or beyond it has one. */
  untell(key: string, position: Lsn): void {
    if (this.over) return;
    const isKnown = this.present.delete(key) || this.gone.delete(key);
    this.gone.set(key, position);
    if (!isKnown) this.add(key, 1);
    if (this.gone.size > Math.max(goneMin, this.present.size)) this.forgetGone();
  }

  /** All rows that there were at this position have been told. */
  tellAll(keys: Iterable<string>, position: Lsn): void {
    for (const key of keys) this.tell(key);
    if (position > this.wholeAt) this.wholeAt = position;
  }

  /** Whether it has every key that a reader may have, which has its id and is at this position. */
  covers(position: Lsn): boolean {
    return !this.over && position >= this.since;
  }

  /**
   * Whether a reader without its id is covered from `to` on, which has just been told what happened from `from` to there: what was there when all was told
   * is known, and the rest this reader was told itself.
   */
  takesIn(from: Lsn, to: Lsn): boolean {
    return !this.over && from <= this.wholeAt && this.wholeAt <= to;
  }

  /** Of readers that it covers. */
  keys(): string[] {
    return [...this.present, ...this.gone.keys()];
  }

  end(): void {
    this.over = true;
    this.present.clear();
    this.gone.clear();
  }

  /** The older half. Readers that have not come past these may have rows with keys that nobody knows any more. */
  private forgetGone(): void {
    const oldest = [...this.gone].slice(0, Math.ceil(this.gone.size / 2));
    for (const [key, position] of oldest) {
      if (position > this.since) this.since = position;
      this.gone.delete(key);
      this.add(key, -1);
    }
  }

  private add(key: string, sign: number): void {
    const bytes = sign * (keyBytes + key.length);
    this.bytes += bytes;
    this.weigh(bytes);
  }
}
