/**
 * Who wants what: shapes that are subscribed to, and the routing of transactions to them. A change costs what it
 * matches: a table nobody asked for is skipped without decoding, and within a table an index over the predicates finds
 * the shapes. An UPDATE is routed by its old row and its new one: a row enters a shape, stays, or leaves.
 *
 * The live stream and a shape that catches up go through the same code: the latter through a registry of its own.
 */
import { alteration } from "../changes/alter.ts";
import { decodeMessage } from "../changes/pgoutput.ts";
import { Message, messageTags } from "../changes/pgoutput-message.ts";
import { oidsOf, type Table } from "../changes/table.ts";
import type { Part, SchemaChange, Transaction } from "../changes/transaction.ts";
import type { AddedColumn, Payload, WalcastError } from "../protocol.ts";
import type { ShapeEntry } from "./entry.ts";
import { Batch } from "./batch.ts";
import { Findings } from "./findings.ts";
import { Leaves } from "./partitions.ts";
import { MessageShape } from "./message-shape.ts";
import { MessageShapes } from "./message-shapes.ts";
import { finishPayloads } from "./payload.ts";
import type { Shape } from "./shape.ts";
import { TableShapes } from "./table-shapes.ts";

/** A shape, of rows or of messages, with those who want it. */
type Wanted<Subscriber> = Pick<ShapeEntry<Subscriber, unknown>, "subscribers">;

export interface Routed<Subscriber> {
  /** Shapes that these transactions changed, each with its payloads in order. */
  readonly changed: readonly { readonly entry: Wanted<Subscriber>; readonly payloads: readonly Payload[] }[];
  /** Shapes whose table is not any more what it was: nothing of these transactions may be shown, they must be loaded anew. */
  readonly broken: readonly ShapeEntry<Subscriber, Pick<Shape, "table" | "key">>[];
  /** Shapes whose predicate failed for a row: they are over. */
  readonly failed: readonly { readonly entry: ShapeEntry<Subscriber, Shape>; readonly failure: WalcastError }[];
}

/** A shape whose table has another form from a transaction on, and what old rows have in columns that are new to it. */
export interface Altered<Subscriber> {
  readonly entry: ShapeEntry<Subscriber, Shape>;
  readonly added: readonly AddedColumn[];
}

export class Registry<Subscriber> {
  private readonly payloadBytesMax: number;
  private readonly tables = new Map<number, TableShapes<Subscriber>>();
  private readonly leaves = new Leaves<TableShapes<Subscriber>>();
  readonly messages: MessageShapes<Subscriber>;
  private readonly message = new Message();
  /** Changes that wait to be routed, and the shapes that they are for. */
  private readonly batch = new Batch();
  private waiting: TableShapes<Subscriber> | undefined = undefined;

  constructor(payloadBytesMax: number) {
    this.payloadBytesMax = payloadBytesMax;
    this.messages = new MessageShapes(payloadBytesMax);
  }

  add(shape: Shape | MessageShape, subscriber: Subscriber): void {
    if (shape instanceof MessageShape) return this.messages.add(shape, subscriber);
    let shapes = this.tables.get(shape.table.oid);
    if (!shapes) {
      this.tables.set(shape.table.oid, (shapes = new TableShapes(shape.table, this.payloadBytesMax)));
      this.leaves.add(shape.table, shapes);
    }
    shapes.add(shape, subscriber);
  }

  delete(shape: Shape | MessageShape, subscriber: Subscriber): void {
    if (shape instanceof MessageShape) return this.messages.delete(shape, subscriber);
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
  entriesOf(oid: number): ShapeEntry<Subscriber, Shape>[] {
    const own = this.tables.get(oid);
    const all = [...(own ? [own] : []), ...this.leaves.of(oid).map(({ root }) => root)];
    return all.flatMap((shapes) => [...shapes.entries.values()]);
  }

  /** Whom a transaction that touches this table may concern. */
  subscribersOf(oid: number): Subscriber[] {
    return [...this.entriesOf(oid), ...this.messages.entriesOf(oid)].flatMap(({ subscribers }) => [...subscribers]);
  }

  /** Whether a shape can be added: those of its table that are here are of the same form. */
  fits({ table }: Pick<Shape, "table">): boolean {
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
    const after = added && before.at(table);
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
    const found = this.begin();
    for (const transaction of transactions) {
      this.collectBroken(transaction, found.broken);
      if (this.concerns(transaction)) this.routeMessages(transaction, transaction, found);
    }
    this.routeBatch(found);
    return routed(found);
  }

  /** Before the parts of a large transaction: shapes whose table it changes. */
  examine(transaction: Transaction): Routed<Subscriber> {
    const found = new Findings<Subscriber>();
    this.collectBroken(transaction, found.broken);
    return routed(found);
  }

  /** A part of a large transaction, after those before it, with nothing else in between. */
  routePart(transaction: Transaction, part: Part): Routed<Subscriber> {
    const found = this.begin();
    this.routeMessages(transaction, part, found);
    this.routeBatch(found);
    return routed(found);
  }

  /** Whether it may have rows for a shape. */
  concerns(transaction: Transaction): boolean {
    return transaction.relations.some(
      ({ oid }) => this.tables.has(oid) || this.leaves.of(oid).length > 0 || this.messages.concerns(oid),
    );
  }

  /** Rows of the old form and of the new one never mix: the whole transaction that changes a table is the new one's. */
  private collectBroken(transaction: Transaction, broken: Findings<Subscriber>["broken"]): void {
    for (const { oid, signature } of transaction.relations) {
      const shapes = this.tables.get(oid);
      if (shapes && shapes.signature !== signature) shapes.breakInto(broken);
      for (const leaf of this.leaves.of(oid)) if (leaf.signature !== signature) leaf.root.breakInto(broken);
    }
    for (const change of lastChanges(transaction)) {
      const shapes = this.tables.get(change.tableOid);
      if (shapes && shapes.version !== change.version) shapes.breakInto(broken);
      this.messages.breakInto(broken, change);
    }
  }

  /** Nothing is left of what may have failed before. */
  private begin(): Findings<Subscriber> {
    this.waiting = undefined;
    this.batch.clear();
    return new Findings<Subscriber>();
  }

  private routeMessages(transaction: Transaction, { bytes, starts }: Part, found: Findings<Subscriber>): void {
    this.messages.routeTables(transaction, found);
    for (let i = 0; i + 1 < starts.length; i++) {
      const start = starts[i]!;
      if (bytes[start] === messageTags.truncate) {
        const { relationOids } = decodeMessage(bytes, start, starts[i + 1]!, this.message);
        this.truncate(transaction, relationOids, found);
        continue;
      }
      if (bytes[start] === messageTags.message) {
        this.messages.route(transaction, bytes, start, starts[i + 1]!, found);
        continue;
      }
      const oid = bytes.readUInt32BE(start + 1);
      const shapes = this.tables.get(oid);
      if (shapes) this.batchOf(shapes, found).add(transaction, bytes, start, starts[i + 1]!, undefined);
      for (const { root, columns } of this.leaves.of(oid))
        this.batchOf(root, found).add(transaction, bytes, start, starts[i + 1]!, columns);
    }
  }

  /** With room for one more. */
  private batchOf(shapes: TableShapes<Subscriber>, found: Findings<Subscriber>): Batch {
    if (this.waiting !== shapes || this.batch.isFull) this.routeBatch(found);
    this.waiting = shapes;
    return this.batch;
  }

  /** Whatever waits in it. */
  private routeBatch(found: Findings<Subscriber>): void {
    this.waiting?.route(this.batch, found);
    this.waiting = undefined;
    this.batch.clear();
  }

  private truncate(transaction: Transaction, oids: readonly number[], found: Findings<Subscriber>): void {
    this.routeBatch(found);
    const { emptied, unknown } = this.leaves.truncated(oids);
    for (const oid of oids) this.tables.get(oid)?.truncate(transaction, found);
    for (const root of emptied) root.truncate(transaction, found);
    for (const root of unknown) root.breakInto(found.broken);
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

function routed<Subscriber>({ touched, writers, broken, failed }: Findings<Subscriber>): Routed<Subscriber> {
  const payloads = writers.map(finishPayloads);
  // Apart from the others: entries lie all over the memory, and short steps fetch several at a time.
  const changed = touched.map((entry, i) => ({ entry, payloads: payloads[i]! }));
  if (broken.size === 0 && failed.size === 0) return { changed, broken: none, failed: none };
  const ended = new Set<unknown>([...broken, ...failed.keys()]);
  const over = [...failed].filter(([entry]) => !broken.has(entry));
  return {
    changed: changed.filter(({ entry }) => !ended.has(entry)),
    broken: [...broken],
    failed: over.map(([entry, failure]) => ({ entry, failure })),
  };
}

const none: readonly never[] = [];
