/**
 * The shapes of one table in one form, with those who want each, and the routing of one row's change to them: by the old row
 * and the new one, through the index, into each shape's payload.
 */
import { messageTags } from "../changes/pgoutput-message.ts";
import type { Table } from "../changes/table.ts";
import { relationSignature, type Transaction } from "../changes/transaction.ts";
import { Tuple, UNCHANGED_TOAST } from "../changes/tuple.ts";
import { must, noteBreach } from "../invariants.ts";
import { WalcastError } from "../protocol.ts";
import type { Batch } from "./batch.ts";
import { ByDigest } from "./by-digest.ts";
import { ShapeEntry } from "./entry.ts";
import type { Findings } from "./findings.ts";
import type { Candidate } from "./index/bucket.ts";
import { qualifiedName } from "./name.ts";
import { Numbered } from "./numbered.ts";
import { Numbers } from "./numbers.ts";
import type { RowChange } from "./partitions.ts";
import { PredicateIndex } from "./predicate-index.ts";
import type { Shape } from "./shape.ts";
import { EvaluationFailed } from "./where.ts";

/** As much of a key's value as a message tells. */
const keyValueMax = 100;

export class TableShapes<Subscriber> {
  /** All are of one version. */
  readonly entries = new ByDigest<ShapeEntry<Subscriber, Shape>>();
  readonly signature: string;
  readonly version: string;
  readonly table: Table;
  private readonly numbered: Numbered<Subscriber, Shape>;
  /** By their numbers. */
  private readonly index = new PredicateIndex<number>();
  private readonly key: readonly number[];
  private readonly columns: number;
  /** Columns that an old tuple is sure to carry. */
  private readonly carried: ReadonlySet<number>;
  private readonly payloadBytesMax: number;
  private change = 0;
  /** Of the changes that are being routed, and whose each of them is. */
  private readonly rows: Tuple[] = [];
  private readonly matching = new Numbers();
  // What `find` is about: a function for each row would be one more thing to make for it.
  private row = new Tuple();
  private found: Findings<Subscriber> | undefined = undefined;

  constructor(table: Table, payloadBytesMax: number) {
    this.table = table;
    this.payloadBytesMax = payloadBytesMax;
    this.signature = relationSignature(table.columns);
    this.version = table.version;
    this.key = table.key;
    this.columns = table.columns.length;
    this.carried = new Set(table.identityColumns);
    this.numbered = new Numbered(table.key, payloadBytesMax);
  }

  get unindexed(): number {
    return this.index.unindexed;
  }

  add(shape: Shape, subscriber: Subscriber): void {
    must(shape.table.version === this.version, "one_version", "shapes of one table in one registry are of one version");
    let entry = this.entries.get(shape.digest);
    if (!entry) {
      entry = new ShapeEntry(shape);
      this.entries.add(shape.digest, entry);
      this.numbered.add(entry, shape.sent);
      this.index.add(shape.predicate, entry.number);
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
      this.index.delete(entry.shape.predicate, entry.number);
      this.numbered.delete(entry);
    }
    return this.entries.size === 0;
  }

  breakInto(broken: Findings<Subscriber>["broken"]): void {
    for (const entry of this.entries.values()) broken.add(entry);
  }

  truncate(transaction: Transaction, found: Findings<Subscriber>): void {
    for (const entry of this.entries.values()) this.numbered.writer(entry.number, found).truncate(transaction);
  }

  route(batch: Batch, found: Findings<Subscriber>): void {
    const { changes } = batch;
    const count = this.readRows(batch);
    // A form that does not fit was found by its signature, and its entries are broken: nothing of it is read.
    if (count < 0) return this.foundOtherForm(found);
    this.find(count, found);
    for (let i = 0, list = 0; i < batch.count; i++)
      list += this.write(batch.transactionOf(i), changes[i]!, list, found);
  }

  /** The rows before and after each change, as far as they came: how many; -1 where one is of another form. */
  private readRows(batch: Batch): number {
    const { rows } = this;
    let count = 0;
    for (let i = 0; i < batch.count; i++) {
      const change = batch.changes[i]!;
      if (change.oldKind !== 0) rows[count++] = change.old;
      if (change.tag === messageTags.delete) continue;
      if (change.new.count !== this.columns) return -1;
      rows[count++] = hasUnchanged(change.new) ? this.withOld(change, batch.mergedOf(i)) : change.new;
    }
    return count;
  }

  /** A form that does not fit and was not found by its signature: a bug of ours, and these shapes are loaded anew. */
  private foundOtherForm({ broken }: Findings<Subscriber>): void {
    if (this.entries.values().every((entry) => broken.has(entry))) return;
    noteBreach("column_count");
    this.breakInto(broken);
  }

  /** Gives how many rows it is about. */
  private write(
    transaction: Transaction,
    { tag, oldKind }: RowChange,
    list: number,
    found: Findings<Subscriber>,
  ): number {
    if (tag === messageTags.insert) this.insert(transaction, list, found);
    else if (tag === messageTags.delete) this.delete_(transaction, list, found);
    else if (oldKind === 0) this.updateInPlace(transaction, list, found);
    else this.update(transaction, list, found);
    return tag === messageTags.update && oldKind !== 0 ? 2 : 1;
  }

  private insert(transaction: Transaction, list: number, found: Findings<Subscriber>): void {
    const { matching, numbered, rows } = this;
    for (let i = matching.startOf(list); i < matching.endOf(list); i++)
      numbered.writer(matching.at(i), found).insert(transaction, rows[list]!);
  }

  private delete_(transaction: Transaction, list: number, found: Findings<Subscriber>): void {
    const { matching, rows } = this;
    for (let i = matching.startOf(list); i < matching.endOf(list); i++)
      this.leave(transaction, matching.at(i), rows[list]!, found);
  }

  /** No old row came: the identity did not change, and predicates here read nothing else. So the row stays where it was. */
  private updateInPlace(transaction: Transaction, list: number, found: Findings<Subscriber>): void {
    const { matching, numbered, rows } = this;
    for (let i = matching.startOf(list); i < matching.endOf(list); i++)
      numbered.writer(matching.at(i), found).update(transaction, rows[list]!, undefined);
  }

  private update(transaction: Transaction, list: number, found: Findings<Subscriber>): void {
    const { matching, numbered } = this;
    const [old, row] = [this.rows[list]!, this.rows[list + 1]!];
    const change = ++this.change;
    const [start, end] = [matching.startOf(list), matching.endOf(list)];
    for (let i = start; i < end; i++) numbered.note(matching.at(i), change);
    const oldKey = this.sameKey(old, row) ? undefined : old;
    for (let i = end; i < matching.endOf(list + 1); i++) {
      const number = matching.at(i);
      if (numbered.noted(number) === change) this.stay(transaction, number, old, row, oldKey, found);
      else this.enter(transaction, number, row, found);
      numbered.note(number, -change);
    }
    for (let i = start; i < end; i++)
      if (numbered.noted(matching.at(i)) === change) this.leave(transaction, matching.at(i), old, found);
  }

  private enter(transaction: Transaction, number: number, row: Tuple, found: Findings<Subscriber>): void {
    const { numbered } = this;
    if (isWhole(row, numbered.sentOf(number).columns)) numbered.writer(number, found).insert(transaction, row);
    // Values stored out of line did not travel, and this shape has never had them: only a new snapshot does.
    else found.broken.add(numbered.entry(number));
  }

  private stay(
    transaction: Transaction,
    number: number,
    old: Tuple,
    row: Tuple,
    oldKey: Tuple | undefined,
    found: Findings<Subscriber>,
  ): void {
    const writer = this.numbered.writer(number, found);
    if (this.numbered.sentOf(number).changes) writer.updateWhole(transaction, row, old);
    else writer.update(transaction, row, oldKey);
  }

  private leave(transaction: Transaction, number: number, old: Tuple, found: Findings<Subscriber>): void {
    const writer = this.numbered.writer(number, found);
    if (this.numbered.sentOf(number).changes) writer.deleteWhole(transaction, old);
    else writer.delete(transaction, old);
  }

  /** Whose predicates hold for each of the first rows, a list for each. */
  private find(count: number, found: Findings<Subscriber>): void {
    const { index, matching, numbered, rows } = this;
    matching.clear();
    this.found = found;
    index.expect(rows, count);
    for (let i = 0; i < count; i++) {
      this.row = rows[i]!;
      index.candidates(this.row, i, this.take);
      matching.endList();
    }
    this.found = undefined;
    numbered.fetch(matching);
  }

  private readonly take = (candidate: Candidate<number>): void => {
    if (!candidate.needsCheck || this.holds(candidate, this.row, this.found!)) this.matching.add(candidate.value);
  };

  private holds(candidate: Candidate<number>, row: Tuple, { failed }: Findings<Subscriber>): boolean {
    try {
      return candidate.holds(row);
    } catch (error) {
      if (!(error instanceof EvaluationFailed)) throw error;
      failed.set(this.numbered.entry(candidate.value), this.failureOf(error, row));
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
  private withOld({ old, new: row }: RowChange, merged: Tuple): Tuple {
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
