/**
 * The index of a segment, in memory for as long as the segment exists: its chunks, pieces of about a MiB that are read at
 * once or skipped as a whole, and the descriptions of tables that its transactions name by number.
 */
import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import type { DescribedRelation, Transaction } from "../changes/transaction.ts";
import type { Lsn } from "../protocol.ts";

export interface Chunk {
  readonly offset: number;
  readonly length: number;
  /** CRC-32 of its bytes: cheaper to verify than each record's. */
  readonly crc: number;
  /** Commit-end of the last transaction at its end, in it or before it. */
  readonly end: Lsn;
  /** Oids of the tables that its transactions touch. */
  readonly tables: ReadonlySet<number>;
}

/** What is written next to each other, once it is in the file. */
export interface Written {
  readonly parts: readonly Buffer[];
  readonly end: Lsn;
  readonly tables: ReadonlySet<number>;
}

export class Chunks {
  private readonly bytesMax: number;
  readonly all: Chunk[];
  /** Where the next one begins. */
  length: number;

  constructor(bytesMax: number, start: number, all: Chunk[] = []) {
    this.bytesMax = bytesMax;
    this.all = all;
    this.length = all.reduce((end, chunk) => Math.max(end, chunk.offset + chunk.length), start);
  }

  add({ parts, end, tables }: Written): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const last = this.all.at(-1);
    const extended = last !== undefined && last.length + length <= this.bytesMax ? last : undefined;
    const chunk = {
      offset: extended?.offset ?? this.length,
      length: (extended?.length ?? 0) + length,
      crc: parts.reduce((crc, part) => crc32(part, crc), extended?.crc ?? 0),
      end,
      tables: extended ? union(extended.tables, tables) : new Set(tables),
    };
    if (extended) this.all[this.all.length - 1] = chunk;
    else this.all.push(chunk);
    this.length += length;
  }

  /** The first that holds a transaction after the position. */
  after(position: Lsn): Chunk | undefined {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.all[middle]!.end > position) high = middle;
      else low = middle + 1;
    }
    return this.all[low];
  }
}

function union(known: ReadonlySet<number>, more: ReadonlySet<number>): ReadonlySet<number> {
  return more.isSubsetOf(known) ? known : known.union(more);
}

/** Every table that the transaction touches, as the oids of its rows and of the tables that it altered. */
export function addTables(tables: Set<number>, { relations, schemaChanges }: Transaction): void {
  for (const { oid } of relations) tables.add(oid);
  for (const { tableOid } of schemaChanges) tables.add(tableOid);
}

/** The same description is one object in all segments, so what is derived from it can be kept beside it. */
export class Descriptions {
  private readonly byText = new Map<string, DescribedRelation>();

  parse(text: string): DescribedRelation {
    const known = this.byText.get(text);
    if (known) return known;
    const relation = JSON.parse(text) as DescribedRelation;
    this.byText.set(text, relation);
    return relation;
  }

  keep(text: string, relation: DescribedRelation): void {
    if (!this.byText.has(text)) this.byText.set(text, relation);
  }
}

/** The descriptions of one segment, by number. */
export class SegmentRelations {
  private readonly descriptions: Descriptions;
  readonly texts: string[] = [];
  private readonly relations: DescribedRelation[] = [];
  /** Each alone in a list: most transactions touch one table, and need no list of their own. */
  private readonly alone: (readonly DescribedRelation[])[] = [];
  private readonly numbers = new Map<DescribedRelation, number>();

  constructor(descriptions: Descriptions, texts: readonly string[] = []) {
    this.descriptions = descriptions;
    texts.forEach((text, number) => this.add(number, text));
  }

  /** The number of the description; `describe` is called where it is new to the segment, to write it down. */
  numberOf(relation: DescribedRelation, describe: (number: number, text: string) => void): number {
    const known = this.numbers.get(relation);
    if (known !== undefined) return known;
    const text = JSON.stringify(relation);
    this.descriptions.keep(text, relation);
    const number = this.texts.indexOf(text) >= 0 ? this.texts.indexOf(text) : this.texts.length;
    this.numbers.set(relation, number);
    if (number < this.texts.length) return number;
    this.add(number, text);
    describe(number, text);
    return number;
  }

  add(number: number, text: string): void {
    assert.equal(number, this.texts.length, "descriptions are numbered in the order in which they come");
    const relation = this.descriptions.parse(text);
    this.texts.push(text);
    this.relations.push(relation);
    this.alone.push([relation]);
  }

  /** The descriptions whose numbers stand there; undefined where one is not known. */
  relationsOf(view: DataView, at: number, count: number): readonly DescribedRelation[] | undefined {
    if (count === 0) return none;
    if (count === 1) return this.alone[view.getUint32(at, true)];
    const relations: DescribedRelation[] = [];
    for (let i = 0; i < count; i++) {
      const relation = this.relations[view.getUint32(at + 4 * i, true)];
      if (!relation) return undefined;
      relations.push(relation);
    }
    return relations;
  }
}

const none: readonly DescribedRelation[] = [];
