/** Those of a registry who want messages, and the routing of a transaction's messages to them: by topic or key, then by scope. */
import { messagesOid, parsePublished, type PublishedMessage } from "../changes/messages.ts";
import { decodeMessage } from "../changes/pgoutput.ts";
import { Message } from "../changes/pgoutput-message.ts";
import type { SchemaChange, Transaction } from "../changes/transaction.ts";
import { TEXT_VALUE, Tuple } from "../changes/tuple.ts";
import { ShapeEntry } from "./entry.ts";
import type { Findings } from "./findings.ts";
import type { MessageShape } from "./message-shape.ts";
import { Numbered } from "./numbered.ts";

type Entry<Subscriber> = ShapeEntry<Subscriber, MessageShape>;

export class MessageShapes<Subscriber> {
  private readonly numbered: Numbered<Subscriber, MessageShape>;
  /** By digest. */
  private readonly entries = new Map<string, Entry<Subscriber>>();
  private readonly byTopic = new Audiences<Entry<Subscriber>>();
  private readonly byKey = new Audiences<Entry<Subscriber>>();
  private readonly byOid = new Map<number, Set<Entry<Subscriber>>>();
  private readonly message = new Message();
  private readonly tuple = new Tuple();
  /** Whose tables were looked at last: a large one comes in parts. */
  private latest: Transaction | undefined;
  /** So many are left out, first of all. */
  skip = 0;

  constructor(payloadBytesMax: number) {
    this.numbered = new Numbered([], payloadBytesMax);
  }

  get isEmpty(): boolean {
    return this.entries.size === 0;
  }

  add(shape: MessageShape, subscriber: Subscriber): void {
    let entry = this.entries.get(shape.digest);
    if (!entry) {
      this.entries.set(shape.digest, (entry = new ShapeEntry(shape)));
      this.numbered.add(entry, shape);
      for (const [audiences, name] of this.places(shape)) audiences.add(name, shape.scopes, entry);
      for (const oid of shape.keysByOid.keys()) this.byOid.set(oid, (this.byOid.get(oid) ?? new Set()).add(entry));
    }
    entry.add(subscriber);
  }

  delete(shape: MessageShape, subscriber: Subscriber): void {
    const entry = this.entries.get(shape.digest);
    entry?.delete(subscriber);
    if (!entry?.isIdle) return;
    this.entries.delete(shape.digest);
    this.numbered.delete(entry);
    for (const [audiences, name] of this.places(shape)) audiences.delete(name, shape.scopes, entry);
    for (const oid of shape.keysByOid.keys()) {
      const others = this.byOid.get(oid)!;
      others.delete(entry);
      if (others.size === 0) this.byOid.delete(oid);
    }
  }

  /** Who may want something of a transaction that touches this table. */
  entriesOf(oid: number): Iterable<Entry<Subscriber>> {
    return oid === messagesOid ? this.entries.values() : (this.byOid.get(oid) ?? []);
  }

  concerns(oid: number): boolean {
    return oid === messagesOid ? this.entries.size > 0 : this.byOid.has(oid);
  }

  /** A table that is dropped or rewritten may be another one under the same name from here on: it is looked up again. */
  breakInto(broken: Findings<Subscriber>["broken"], { tableOid, version }: SchemaChange): void {
    if (version === null) for (const entry of this.byOid.get(tableOid) ?? []) broken.add(entry);
  }

  /** The keys of the tables that it changes, once for each transaction. */
  routeTables(transaction: Transaction, found: Findings<Subscriber>): void {
    if (this.byOid.size === 0 || this.latest === transaction) return;
    this.latest = transaction;
    const told = new Map<Entry<Subscriber>, Set<string>>();
    for (const { oid } of transaction.relations)
      for (const entry of this.byOid.get(oid) ?? []) {
        const key = entry.shape.keysByOid.get(oid)!;
        const keys = told.get(entry) ?? new Set();
        told.set(entry, keys);
        if (!keys.has(key)) this.write(transaction, entry, Buffer.from(key), found);
        keys.add(key);
      }
  }

  /** The logical message that is bytes[start … end). */
  route(transaction: Transaction, bytes: Buffer, start: number, end: number, found: Findings<Subscriber>): void {
    if (this.entries.size === 0) return;
    const { secondStart, secondEnd } = decodeMessage(bytes, start, end, this.message);
    const published = parsePublished(bytes, secondStart, secondEnd);
    if (published.topic !== undefined) this.routeTopic(transaction, published, published.topic, found);
    for (const key of new Set(published.keys))
      for (const entry of this.byKey.of(key, published.scopes)) this.write(transaction, entry, Buffer.from(key), found);
  }

  private routeTopic(
    transaction: Transaction,
    { bytes, bodyStart, bodyEnd, scopes }: PublishedMessage,
    topic: string,
    found: Findings<Subscriber>,
  ): void {
    for (const entry of this.byTopic.of(topic, scopes))
      this.write(transaction, entry, bytes.subarray(bodyStart, bodyEnd), found);
  }

  private write(
    transaction: Transaction,
    { number }: Entry<Subscriber>,
    text: Buffer,
    found: Findings<Subscriber>,
  ): void {
    if (this.skip > 0) return void this.skip--;
    this.tuple.reset(text, 1);
    this.tuple.kinds[0] = TEXT_VALUE;
    this.tuple.starts[0] = 0;
    this.tuple.ends[0] = text.length;
    this.numbered.writer(number, found).insert(transaction, this.tuple);
  }

  private places({ topic, keys }: MessageShape): [Audiences<Entry<Subscriber>>, string][] {
    const byKey = keys.map((key): [Audiences<Entry<Subscriber>>, string] => [this.byKey, key]);
    return topic === undefined ? byKey : [...byKey, [this.byTopic, topic]];
  }
}

/** Who listens to what is called so, and who of them has which scope. */
class Audiences<Listener> {
  private readonly byName = new Map<string, { all: Set<Listener>; byScope: Map<string, Set<Listener>> }>();

  add(name: string, scopes: readonly string[], listener: Listener): void {
    let audience = this.byName.get(name);
    if (!audience) this.byName.set(name, (audience = { all: new Set(), byScope: new Map() }));
    audience.all.add(listener);
    for (const scope of scopes)
      audience.byScope.set(scope, (audience.byScope.get(scope) ?? new Set<Listener>()).add(listener));
  }

  delete(name: string, scopes: readonly string[], listener: Listener): void {
    const { all, byScope } = this.byName.get(name)!;
    all.delete(listener);
    if (all.size === 0) return void this.byName.delete(name);
    for (const scope of scopes) {
      const listeners = byScope.get(scope);
      if (listeners?.delete(listener) && listeners.size === 0) byScope.delete(scope);
    }
  }

  /** Each once. `scopes`: those that have one of them; null: all. */
  of(name: string, scopes: readonly string[] | null): ReadonlySet<Listener> {
    const audience = this.byName.get(name);
    if (!audience) return new Set();
    if (scopes === null) return audience.all;
    if (scopes.length === 1) return audience.byScope.get(scopes[0]!) ?? new Set();
    return new Set(scopes.flatMap((scope) => [...(audience.byScope.get(scope) ?? [])]));
  }
}
