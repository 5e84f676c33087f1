/**
 * Who wants what: shapes that are subscribed to, and the routing of transactions to them. A change costs what it
 * matches: a table nobody asked for is skipped without decoding, and within a table an index over the predicates finds
 * the shapes. An UPDATE is routed by its old row and its new one: a row enters a shape, stays, or leaves.
 *
 * The live stream and a shape that catches up go through the same code: the latter through a registry of its own.
 */
import { alteration } from "../changes/alter.ts";
import { decodeMessage, Message, messageTags } from "../changes/pgoutput.ts";
import { oidsOf, type Table } from "../changes/table.ts";
import { type Part, relationSignature, type SchemaChange, type Transaction } from "../changes/transaction.ts";
import { Tuple, UNCHANGED_TOAST } from "../changes/tuple.ts";
import { must, noteBreach } from "../invariants.ts";
import { type AddedColumn, type Payload, WalcastError } from "../protocol.ts";
import { Leaves, Rearranged, type RowChange } from "./partitions.ts";
import { PayloadWriter } from "./payload.ts";
import { PredicateIndex } from "./predicate-index.ts";
import type { Shape } from "./shape.ts";

/** A shape in a registry, with those who want it. */
export class ShapeEntry<Subscriber> {
  readonly shape: Shape;
  readonly subscribers = new Set<Subscriber>();
  readonly writer: PayloadWriter;
  /** The number of the change whose old row was found to match: spares a set per change. */
  matchedOld = 0;

  constructor(shape: Shape, payloadBytesMax: number) {
    this.shape = shape;
    this.writer = new PayloadWriter(shape.columns, shape.table.key, payloadBytesMax);
  }
}

export interface Routed<Subscriber> {
  /** Shapes that these transactions changed, each with its payloads in order. */
  readonly changed: readonly { readonly entry: ShapeEntry<Subscriber>; readonly payloads: readonly Payload[] }[];
  /** Shapes whose table is not any more what it was: nothing of these transactions may be shown, they must be loaded anew. */
  readonly broken: readonly ShapeEntry<Subscriber>[];
}

/** A shape whose table has another form from a transaction on, and what old rows have in columns that are new to it. */
export interface Altered<Subscriber> {
  readonly entry: ShapeEntry<Subscriber>;
  readonly added: readonly AddedColumn[];
}

export class Registry<Subscriber> {
  private readonly payloadBytesMax: number;
  private readonly tables = new Map<number, TableShapes<Subscriber>>();
  private readonly leaves = new Leaves<TableShapes<Subscriber>>();
  private readonly message = new Message();
  private readonly rearranged = new Rearranged();

  constructor(payloadBytesMax: number) {
    this.payloadBytesMax = payloadBytesMax;
  }

  add(shape: Shape, subscriber: Subscriber): void {
    let shapes = this.tables.get(shape.table.oid);
    if (!shapes) {
      this.tables.set(shape.table.oid, (shapes = new TableShapes(shape)));
      this.leaves.add(shape.table, shapes);
    }
    shapes.add(shape, subscriber, this.payloadBytesMax);
  }

  delete(shape: Shape, subscriber: Subscriber): void {
    const shapes = this.tables.get(shape.table.oid);
    if (!shapes?.delete(shape, subscriber)) return;
    this.tables.delete(shape.table.oid);
    this.leaves.delete(shape.table, shapes);
  }

  /** Distinct shapes. */
  get size(): number {
    let size = 0;
    for (const shapes of this.tables.values()) size += shapes.entries.size;
    return size;
  }

  /** Predicates that are evaluated for every row of their table. */
  get unindexed(): number {
    let count = 0;
    for (const shapes of this.tables.values()) count += shapes.unindexed;
    return count;
  }

  /** The version of each table that somebody wants, by oid. */
  versions(): Map<number, string> {
    return new Map([...this.tables].map(([oid, shapes]) => [oid, shapes.version]));
  }

  versionOf(oid: number): string | undefined {
    return this.tables.get(oid)?.version;
  }

  /** All shapes of a table, and of those that it is a partition of. */
  entriesOf(oid: number): ShapeEntry<Subscriber>[] {
    const own = this.tables.get(oid);
    const all = [...(own ? [own] : []), ...this.leaves.of(oid).map(({ root }) => root)];
    return all.flatMap((shapes) => [...shapes.entries.values()]);
  }

  /** Whether a shape can be added: those of its table that are here are of the same form. */
  fits({ table }: Shape): boolean {
    return (this.versionOf(table.oid) ?? table.version) === table.version;
  }

  /**
   * Before the transaction is routed, where it changes a table so that the rows which are there can be brought to the new
   * form in place: its shapes are of that form from here on. All of them, or they break when it is routed.
   */
  alter(transaction: Transaction): Altered<Subscriber>[] {
    return lastChanges(transaction).flatMap(({ tableOid, table }) => {
      const shapes = this.tables.get(tableOid);
      if (!shapes || !table || table.version === shapes.version) return [];
      return this.alterTable(shapes, table, transaction);
    });
  }

  private alterTable(before: TableShapes<Subscriber>, table: Table, { relations }: Transaction): Altered<Subscriber>[] {
    const added = alteration(before.table, table);
    const after = added && before.at(table, this.payloadBytesMax);
    const oids = oidsOf(table);
    // Rows that this transaction wrote before its change are of the old form.
    if (!after || relations.some(({ oid, signature }) => oids.includes(oid) && signature !== after.signature))
      return [];
    this.leaves.delete(before.table, before);
    this.tables.set(table.oid, after);
    this.leaves.add(table, after);
    return [...after.entries.values()].map((entry) => ({ entry, added: added.filter(isIn(entry.shape)) }));
  }

  /** Transactions that are in memory. */
  route(transactions: Iterable<Transaction>): Routed<Subscriber> {
    const touched = new Set<ShapeEntry<Subscriber>>();
    const broken = new Set<ShapeEntry<Subscriber>>();
    for (const transaction of transactions) {
      this.collectBroken(transaction, broken);
      if (this.concerns(transaction)) this.routeMessages(transaction, transaction, touched, broken);
    }
    return routed(touched, broken);
  }

  /** Before the parts of a large transaction: shapes whose table it changes. */
  examine(transaction: Transaction): ShapeEntry<Subscriber>[] {
    const broken = new Set<ShapeEntry<Subscriber>>();
    this.collectBroken(transaction, broken);
    return [...broken];
  }

  /** A part of a large transaction, after those before it, with nothing else in between. */
  routePart(transaction: Transaction, part: Part): Routed<Subscriber> {
    const touched = new Set<ShapeEntry<Subscriber>>();
    const broken = new Set<ShapeEntry<Subscriber>>();
    this.routeMessages(transaction, part, touched, broken);
    return routed(touched, broken);
  }

  /** Whether it may have rows for a shape. */
  concerns(transaction: Transaction): boolean {
    return transaction.relations.some(({ oid }) => this.tables.has(oid) || this.leaves.of(oid).length > 0);
  }

  /** Rows of the old form and of the new one never mix: the whole transaction that changes a table is the new one's. */
  private collectBroken(transaction: Transaction, broken: Set<ShapeEntry<Subscriber>>): void {
    for (const { oid, signature } of transaction.relations) {
      const shapes = this.tables.get(oid);
      if (shapes && shapes.signature !== signature) shapes.breakInto(broken);
      for (const leaf of this.leaves.of(oid)) if (leaf.signature !== signature) leaf.root.breakInto(broken);
    }
    for (const { tableOid, version } of lastChanges(transaction)) {
      const shapes = this.tables.get(tableOid);
      if (shapes && shapes.version !== version) shapes.breakInto(broken);
    }
  }

  private routeMessages(
    transaction: Transaction,
    { bytes, starts }: Part,
    touched: Set<ShapeEntry<Subscriber>>,
    broken: Set<ShapeEntry<Subscriber>>,
  ): void {
    for (let i = 0; i + 1 < starts.length; i++) {
      const start = starts[i]!;
      if (bytes[start] === messageTags.truncate) {
        const { relationOids } = decodeMessage(bytes, start, starts[i + 1]!, this.message);
        this.truncate(transaction, relationOids, touched, broken);
        continue;
      }
      const oid = bytes.readUInt32BE(start + 1);
      const shapes = this.tables.get(oid);
      const leaves = this.leaves.of(oid);
      if (!shapes && leaves.length === 0) continue;
      const message = decodeMessage(bytes, start, starts[i + 1]!, this.message);
      shapes?.route(transaction, message, touched, broken);
      for (const { root, columns } of leaves)
        root.route(transaction, columns ? this.rearranged.of(message, columns) : message, touched, broken);
    }
  }

  private truncate(
    transaction: Transaction,
    oids: readonly number[],
    touched: Set<ShapeEntry<Subscriber>>,
    broken: Set<ShapeEntry<Subscriber>>,
  ): void {
    const { emptied, unknown } = this.leaves.truncated(oids);
    for (const oid of oids) this.tables.get(oid)?.truncate(transaction, touched);
    for (const root of emptied) root.truncate(transaction, touched);
    for (const root of unknown) root.breakInto(broken);
  }
}

/** Of several changes to one table the last one says what it is afterwards. */
function lastChanges({ schemaChanges }: Transaction): readonly SchemaChange[] {
  if (schemaChanges.length < 2) return schemaChanges;
  const last = new Map<number, SchemaChange>();
  for (const change of schemaChanges) last.set(change.tableOid, following(last.get(change.tableOid), change));
  return [...last.values()];
}

/** What was rewritten stays so, whatever follows; and between two replica identities old rows may have lacked columns. */
function following(before: SchemaChange | undefined, change: SchemaChange): SchemaChange {
  if (!before) return change;
  const isKept = before.version !== null && before.table?.replicaIdentity === change.table?.replicaIdentity;
  return isKept ? change : { tableOid: change.tableOid, version: null };
}

function isIn({ table, columns }: Shape): (added: AddedColumn) => boolean {
  return ({ name }) => columns.some((column) => table.columns[column]!.name === name);
}

function routed<Subscriber>(
  touched: ReadonlySet<ShapeEntry<Subscriber>>,
  broken: ReadonlySet<ShapeEntry<Subscriber>>,
): Routed<Subscriber> {
  const changed = [...touched]
    .map((entry) => ({ entry, payloads: entry.writer.finish() }))
    .filter(({ entry }) => !broken.has(entry));
  return { changed, broken: [...broken] };
}

/** The shapes of one table in one form. */
class TableShapes<Subscriber> {
  readonly entries = new Map<string, ShapeEntry<Subscriber>>();
  readonly signature: string;
  readonly version: string;
  readonly table: Table;
  private readonly index = new PredicateIndex<ShapeEntry<Subscriber>>();
  private readonly key: readonly number[];
  private readonly columns: number;
  /** Columns that an old tuple is sure to carry. */
  private readonly carried: ReadonlySet<number>;
  private change = 0;
  private readonly leaving: ShapeEntry<Subscriber>[] = [];
  private readonly merged = new Tuple();

  constructor({ table }: Shape) {
    this.table = table;
    this.signature = relationSignature(table.columns);
    this.version = table.version;
    this.key = table.key;
    this.columns = table.columns.length;
    this.carried = new Set(table.identityColumns);
  }

  get unindexed(): number {
    return this.index.unindexed;
  }

  add(shape: Shape, subscriber: Subscriber, payloadBytesMax: number): void {
    must(shape.table.version === this.version, "one_version", "shapes of one table in one registry are of one version");
    let entry = this.entries.get(shape.key);
    if (!entry) {
      entry = new ShapeEntry(shape, payloadBytesMax);
      this.entries.set(shape.key, entry);
      this.index.add(shape.predicate, entry);
    }
    entry.subscribers.add(subscriber);
  }

  /** The same shapes with the same subscribers, of the table's new form; undefined where one of them cannot be served any more. */
  at(table: Table, payloadBytesMax: number): TableShapes<Subscriber> | undefined {
    const shapes = [...this.entries.values()].map((entry) => ({ entry, shape: reformed(entry.shape, table) }));
    const [first] = shapes;
    if (!first?.shape) return undefined;
    const after = new TableShapes<Subscriber>(first.shape);
    for (const { entry, shape } of shapes) {
      if (!shape) return undefined;
      for (const subscriber of entry.subscribers) after.add(shape, subscriber, payloadBytesMax);
    }
    return after;
  }

  /** True when that was the table's last. */
  delete(shape: Shape, subscriber: Subscriber): boolean {
    const entry = this.entries.get(shape.key);
    if (!entry) return false;
    entry.subscribers.delete(subscriber);
    if (entry.subscribers.size === 0) {
      this.entries.delete(shape.key);
      this.index.delete(entry.shape.predicate, entry);
    }
    return this.entries.size === 0;
  }

  breakInto(broken: Set<ShapeEntry<Subscriber>>): void {
    for (const entry of this.entries.values()) broken.add(entry);
  }

  truncate(transaction: Transaction, touched: Set<ShapeEntry<Subscriber>>): void {
    for (const entry of this.entries.values()) {
      entry.writer.truncate(transaction);
      touched.add(entry);
    }
  }

  route(
    transaction: Transaction,
    message: RowChange,
    touched: Set<ShapeEntry<Subscriber>>,
    broken: Set<ShapeEntry<Subscriber>>,
  ): void {
    // A form that does not fit was found by its signature, and its entries are broken: nothing of it is read.
    if (message.tag !== messageTags.delete && message.new.count !== this.columns) return this.foundOtherForm(broken);
    if (message.tag === messageTags.insert) this.insert(transaction, message.new, touched);
    else if (message.tag === messageTags.delete) this.delete_(transaction, message.old, touched);
    else if (message.oldKind === 0) this.updateInPlace(transaction, message.new, touched);
    else this.update(transaction, message.old, this.withOld(message), touched, broken);
  }

  /** A form that does not fit and was not found by its signature: a bug of ours, and these shapes are loaded anew. */
  private foundOtherForm(broken: Set<ShapeEntry<Subscriber>>): void {
    if (this.entries.values().every((entry) => broken.has(entry))) return;
    noteBreach("column_count");
    this.breakInto(broken);
  }

  private insert(transaction: Transaction, row: Tuple, touched: Set<ShapeEntry<Subscriber>>): void {
    this.eachMatch(row, (entry) => {
      entry.writer.insert(transaction, row);
      touched.add(entry);
    });
  }

  private delete_(transaction: Transaction, old: Tuple, touched: Set<ShapeEntry<Subscriber>>): void {
    this.eachMatch(old, (entry) => this.leave(transaction, entry, old, touched));
  }

  /** No old row came: the identity did not change, and predicates here read nothing else. So the row stays where it was. */
  private updateInPlace(transaction: Transaction, row: Tuple, touched: Set<ShapeEntry<Subscriber>>): void {
    this.eachMatch(row, (entry) => {
      entry.writer.update(transaction, row, undefined);
      touched.add(entry);
    });
  }

  private update(
    transaction: Transaction,
    old: Tuple,
    row: Tuple,
    touched: Set<ShapeEntry<Subscriber>>,
    broken: Set<ShapeEntry<Subscriber>>,
  ): void {
    const change = ++this.change;
    this.leaving.length = 0;
    this.eachMatch(old, (entry) => {
      entry.matchedOld = change;
      this.leaving.push(entry);
    });
    const oldKey = this.sameKey(old, row) ? undefined : old;
    this.eachMatch(row, (entry) => {
      if (entry.matchedOld === change) this.stay(transaction, entry, old, row, oldKey);
      else if (isWhole(row, entry.shape.columns)) entry.writer.insert(transaction, row);
      // Values stored out of line did not travel, and this shape has never had them: only a new snapshot does.
      else broken.add(entry);
      entry.matchedOld = -change;
      touched.add(entry);
    });
    for (const entry of this.leaving) if (entry.matchedOld === change) this.leave(transaction, entry, old, touched);
  }

  private stay(
    transaction: Transaction,
    entry: ShapeEntry<Subscriber>,
    old: Tuple,
    row: Tuple,
    oldKey: Tuple | undefined,
  ): void {
    if (entry.shape.changes) entry.writer.updateWhole(transaction, row, old);
    else entry.writer.update(transaction, row, oldKey);
  }

  private leave(
    transaction: Transaction,
    entry: ShapeEntry<Subscriber>,
    old: Tuple,
    touched: Set<ShapeEntry<Subscriber>>,
  ): void {
    if (entry.shape.changes) entry.writer.deleteWhole(transaction, old);
    else entry.writer.delete(transaction, old);
    touched.add(entry);
  }

  private eachMatch(row: Tuple, visit: (entry: ShapeEntry<Subscriber>) => void): void {
    this.index.candidates(row, (candidate) => {
      if (!candidate.needsCheck || candidate.predicate.matches(row) === true) candidate.forEach(visit);
    });
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
