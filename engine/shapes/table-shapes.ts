/**
 * The shapes of one table in one form, with those who want each, and the routing of one row's change to them: by the old row
 * and the new one, through the index, into each shape's payload.
 */
import { messageTags } from "../changes/pgoutput.ts";
import type { Table } from "../changes/table.ts";
import { relationSignature, type Transaction } from "../changes/transaction.ts";
import { Tuple, UNCHANGED_TOAST } from "../changes/tuple.ts";
import { must, noteBreach } from "../invariants.ts";
import { WalcastError } from "../protocol.ts";
import type { Candidate } from "./index/bucket.ts";
import { type Few, withOne, withoutOne } from "./index/few.ts";
import type { RowChange } from "./partitions.ts";
import { beginPayloads, type PayloadWriter } from "./payload.ts";
import { qualifiedName } from "./name.ts";
import { PredicateIndex } from "./predicate-index.ts";
import type { MessageShape } from "./message-shape.ts";
import type { Shape } from "./shape.ts";
import { EvaluationFailed } from "./where.ts";

/** A shape in a registry, with those who want it. There may be a million: while nothing of it changes it holds nothing else. */
export class ShapeEntry<Subscriber, Of = Shape> {
  readonly shape: Of;
  /** While transactions are routed that change it. */
  writer: PayloadWriter | undefined = undefined;
  private wanting: Few<Subscriber> = undefined;
  /** The number of the change whose old row was found to match: spares a set per change. */
  matchedOld = 0;

  constructor(shape: Of) {
    this.shape = shape;
  }

  get subscribers(): Iterable<Subscriber> {
    if (this.wanting instanceof Set) return this.wanting;
    return this.wanting === undefined ? [] : [this.wanting];
  }

  /** Nobody wants it any more. */
  get isIdle(): boolean {
    return this.wanting === undefined;
  }

  add(subscriber: Subscriber): void {
    this.wanting = withOne(this.wanting, subscriber);
  }

  delete(subscriber: Subscriber): void {
    this.wanting = withoutOne(this.wanting, subscriber);
  }
}

/** What routing found: shapes that changed, that have to be loaded anew, and that cannot say for some row whether it is theirs. */
export class Findings<Subscriber> {
  /** Those that have a writer, each once. */
  readonly touched: ShapeEntry<Subscriber, unknown>[] = [];
  readonly broken = new Set<ShapeEntry<Subscriber, Shape | MessageShape>>();
  readonly failed = new Map<ShapeEntry<Subscriber>, WalcastError>();
}

/** As much of a key's value as a message tells. */
const keyValueMax = 100;

export class TableShapes<Subscriber> {
  /** By digest: all are of one version. */
  readonly entries = new Map<string, ShapeEntry<Subscriber>>();
  readonly signature: string;
  readonly version: string;
  readonly table: Table;
  private readonly index = new PredicateIndex<ShapeEntry<Subscriber>>();
  private readonly key: readonly number[];
  private readonly columns: number;
  /** Columns that an old tuple is sure to carry. */
  private readonly carried: ReadonlySet<number>;
  private readonly payloadBytesMax: number;
  private change = 0;
  private readonly leaving: ShapeEntry<Subscriber>[] = [];
  private readonly merged = new Tuple();

  constructor(table: Table, payloadBytesMax: number) {
    this.table = table;
    this.payloadBytesMax = payloadBytesMax;
    this.signature = relationSignature(table.columns);
    this.version = table.version;
    this.key = table.key;
    this.columns = table.columns.length;
    this.carried = new Set(table.identityColumns);
  }

  get unindexed(): number {
    return this.index.unindexed;
  }

  add(shape: Shape, subscriber: Subscriber): void {
    must(shape.table.version === this.version, "one_version", "shapes of one table in one registry are of one version");
    let entry = this.entries.get(shape.digest);
    if (!entry) {
      entry = new ShapeEntry(shape);
      this.entries.set(shape.digest, entry);
      this.index.add(shape.predicate, entry);
    }
    entry.add(subscriber);
  }

  /** The same shapes with the same subscribers, of the table's new form; undefined where one of them cannot be served any more. */
  at(table: Table): TableShapes<Subscriber> | undefined {
    const shapes = [...this.entries.values()].map((entry) => ({ entry, shape: reformed(entry.shape, table) }));
    const after = new TableShapes<Subscriber>(table, this.payloadBytesMax);
    for (const { entry, shape } of shapes) {
      if (!shape) return undefined;
      for (const subscriber of entry.subscribers) after.add(shape, subscriber);
    }
    return after;
  }

  /** True when that was the table's last. */
  delete(shape: Shape, subscriber: Subscriber): boolean {
    const entry = shape.table.version === this.version ? this.entries.get(shape.digest) : undefined;
    if (!entry) return false;
    entry.delete(subscriber);
    if (entry.isIdle) {
      this.entries.delete(shape.digest);
      this.index.delete(entry.shape.predicate, entry);
    }
    return this.entries.size === 0;
  }

  breakInto(broken: Set<ShapeEntry<Subscriber, Shape | MessageShape>>): void {
    for (const entry of this.entries.values()) broken.add(entry);
  }

  truncate(transaction: Transaction, found: Findings<Subscriber>): void {
    for (const entry of this.entries.values()) this.writer(entry, found).truncate(transaction);
  }

  route(transaction: Transaction, message: RowChange, found: Findings<Subscriber>): void {
    // A form that does not fit was found by its signature, and its entries are broken: nothing of it is read.
    if (message.tag !== messageTags.delete && message.new.count !== this.columns) return this.foundOtherForm(found);
    if (message.tag === messageTags.insert) this.insert(transaction, message.new, found);
    else if (message.tag === messageTags.delete) this.delete_(transaction, message.old, found);
    else if (message.oldKind === 0) this.updateInPlace(transaction, message.new, found);
    else this.update(transaction, message.old, this.withOld(message), found);
  }

  /** A form that does not fit and was not found by its signature: a bug of ours, and these shapes are loaded anew. */
  private foundOtherForm({ broken }: Findings<Subscriber>): void {
    if (this.entries.values().every((entry) => broken.has(entry))) return;
    noteBreach("column_count");
    this.breakInto(broken);
  }

  private insert(transaction: Transaction, row: Tuple, found: Findings<Subscriber>): void {
    this.eachMatch(row, found, (entry) => this.writer(entry, found).insert(transaction, row));
  }

  private delete_(transaction: Transaction, old: Tuple, found: Findings<Subscriber>): void {
    this.eachMatch(old, found, (entry) => this.leave(transaction, entry, old, found));
  }

  /** No old row came: the identity did not change, and predicates here read nothing else. So the row stays where it was. */
  private updateInPlace(transaction: Transaction, row: Tuple, found: Findings<Subscriber>): void {
    this.eachMatch(row, found, (entry) => this.writer(entry, found).update(transaction, row, undefined));
  }

  private update(transaction: Transaction, old: Tuple, row: Tuple, found: Findings<Subscriber>): void {
    const change = ++this.change;
    this.leaving.length = 0;
    this.eachMatch(old, found, (entry) => {
      entry.matchedOld = change;
      this.leaving.push(entry);
    });
    const oldKey = this.sameKey(old, row) ? undefined : old;
    this.eachMatch(row, found, (entry) => {
      if (entry.matchedOld === change) this.stay(transaction, entry, old, row, oldKey, found);
      else if (isWhole(row, entry.shape.columns)) this.writer(entry, found).insert(transaction, row);
      // Values stored out of line did not travel, and this shape has never had them: only a new snapshot does.
      else found.broken.add(entry);
      entry.matchedOld = -change;
    });
    for (const entry of this.leaving) if (entry.matchedOld === change) this.leave(transaction, entry, old, found);
  }

  private stay(
    transaction: Transaction,
    entry: ShapeEntry<Subscriber>,
    old: Tuple,
    row: Tuple,
    oldKey: Tuple | undefined,
    found: Findings<Subscriber>,
  ): void {
    const writer = this.writer(entry, found);
    if (entry.shape.changes) writer.updateWhole(transaction, row, old);
    else writer.update(transaction, row, oldKey);
  }

  private leave(
    transaction: Transaction,
    entry: ShapeEntry<Subscriber>,
    old: Tuple,
    found: Findings<Subscriber>,
  ): void {
    const writer = this.writer(entry, found);
    if (entry.shape.changes) writer.deleteWhole(transaction, old);
    else writer.delete(transaction, old);
  }

  private writer(entry: ShapeEntry<Subscriber>, { touched }: Findings<Subscriber>): PayloadWriter {
    if (!entry.writer) {
      entry.writer = beginPayloads(entry.shape.columns, this.key, this.payloadBytesMax);
      touched.push(entry);
    }
    return entry.writer;
  }

  private eachMatch(row: Tuple, found: Findings<Subscriber>, visit: (entry: ShapeEntry<Subscriber>) => void): void {
    this.index.candidates(row, (candidate) => {
      if (!candidate.needsCheck || this.holds(candidate, row, found)) visit(candidate.value);
    });
  }

  private holds(candidate: Candidate<ShapeEntry<Subscriber>>, row: Tuple, { failed }: Findings<Subscriber>): boolean {
    try {
      return candidate.holds(row);
    } catch (error) {
      if (!(error instanceof EvaluationFailed)) throw error;
      failed.set(candidate.value, this.failureOf(error, row));
      return false;
    }
  }

  /** A rule that fails leaves it open who may read the row: then nothing is said of it, and what was read before is not kept either. */
  private failureOf({ message, ofRule }: EvaluationFailed, row: Tuple): WalcastError {
    const name = qualifiedName(this.table.schema, this.table.name);
    if (ofRule) return new WalcastError("forbidden", `sync ${name}: its read rule failed for a row`);
    const columns = this.key.map((column) => this.table.columns[column]!.name).join(", ");
    const values = this.key.map((column) => row.text(column)?.slice(0, keyValueMax)).join(", ");
    return new WalcastError("where_failed", `sync ${name}: ${message}, in the row with (${columns}) = (${values})`);
  }

  /**
   * Values stored out of line that the update left alone do not travel again: the old tuple has them where they belong to
   * the replica identity, which under FULL is everything.
   */
  private withOld({ old, new: row }: RowChange): Tuple {
    if (!hasUnchanged(row)) return row;
    const { merged } = this;
    merged.reset(row.bytes, row.count);
    for (let i = 0; i < row.count; i++) {
      const from = row.kinds[i] === UNCHANGED_TOAST && this.carried.has(i) ? old : row;
      merged.kinds[i] = from.kinds[i]!;
      merged.starts[i] = from.starts[i]!;
      merged.ends[i] = from.ends[i]!;
    }
    return merged;
  }

  private sameKey(old: Tuple, row: Tuple): boolean {
    for (const column of this.key) if (!sameValue(old, row, column)) return false;
    return true;
  }
}

function reformed(shape: Shape, table: Table): Shape | undefined {
  try {
    return shape.at(table);
  } catch (error) {
    if (error instanceof WalcastError) return undefined;
    throw error;
  }
}

function isWhole(row: Tuple, columns: readonly number[]): boolean {
  return columns.every((column) => row.kinds[column] !== UNCHANGED_TOAST);
}

function hasUnchanged(row: Tuple): boolean {
  for (let i = 0; i < row.count; i++) if (row.kinds[i] === UNCHANGED_TOAST) return true;
  return false;
}

/** Byte equality. Keys that are equal to Postgres but differ in text (1.0 and 1.00) count as changed, which is harmless. */
function sameValue(a: Tuple, b: Tuple, column: number): boolean {
  if (b.kinds[column] === UNCHANGED_TOAST) return true;
  const start = a.starts[column]!;
  const length = a.ends[column]! - start;
  const other = b.starts[column]!;
  if (a.kinds[column] !== b.kinds[column] || b.ends[column]! - other !== length) return false;
  for (let i = 0; i < length; i++) if (a.bytes[start + i] !== b.bytes[other + i]) return false;
  return true;
}
