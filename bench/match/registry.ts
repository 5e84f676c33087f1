/** The whole registry, with shapes of two equalities as clients ask for them: what one takes, and what a change costs. */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { messageTags } from "../../engine/changes/pgoutput-message.ts";
import { relationSignature, type Transaction } from "../../engine/changes/transaction.ts";
import { NULL_VALUE, TEXT_VALUE, Tuple } from "../../engine/changes/tuple.ts";
import type { Lsn, ShapeRequest } from "../../engine/protocol.ts";
import { Registry } from "../../engine/shapes/registry.ts";
import { resolveShape, type Shape } from "../../engine/shapes/shape.ts";
import { type Figure, figure } from "../bench.ts";
import type { Parameters } from "../match.ts";
import { inTurn, median, secondsOf } from "../measure.ts";
import { customer, keyOf, lookedUp, Rows, status, table } from "./orders.ts";

const subscriber = {};

export async function measureRegistry(shapes: number, parameters: Parameters): Promise<Figure[]> {
  const registry = new Registry<object>(1 << 20);
  const before = memory();
  for (let n = 0; n < shapes; n++) registry.add(shapeOf(n), subscriber);
  const bytes = (memory() - before) / shapes;
  const conditions = { shapes, kind: "two columns =" };
  return [
    { figure: "bytes_per_shape", value: bytes, unit: "bytes", conditions },
    ...(await measureRouting(registry, shapes, parameters)),
    await measureSubscribing(registry, shapes, parameters),
  ];
}

async function measureRouting(registry: Registry<object>, shapes: number, parameters: Parameters): Promise<Figure[]> {
  const { changes, readChanges, rounds } = parameters;
  const byKey = new Map(Array.from({ length: shapes }, (_, n) => [keyOf(n), n]));
  const rows = new Rows(changes, shapes);
  const transaction = insertOf(rows);
  const [reads, whole] = [partsOf(transaction, readChanges), partsOf(transaction, changes)];
  const touched = [touchedBy(rows, readChanges), touchedBy(rows, changes)];
  const seconds = await inTurn(rounds, {
    inReads: () => secondsOf(() => assert.equal(changedBy(registry, reads), touched[0])),
    atOnce: () => secondsOf(() => assert.equal(changedBy(registry, whole), touched[1])),
    floor: () => secondsOf(() => assert.equal(lookedUp(byKey, rows.keys), changes)),
  });
  const nanoseconds = (name: keyof typeof seconds): number => (median(seconds[name]) / changes) * 1e9;
  const conditions = { shapes, kind: "two columns =", changes };
  return [
    figure("routed_ns_per_change", "ns", nanoseconds("inReads"), nanoseconds("floor"), {
      conditions: { ...conditions, readChanges },
    }),
    figure("routed_at_once_ns_per_change", "ns", nanoseconds("atOnce"), nanoseconds("floor"), { conditions }),
  ];
}

/** Shapes that are told of something, in all. */
function changedBy(registry: Registry<object>, reads: readonly Transaction[]): number {
  let count = 0;
  for (const read of reads) count += registry.route([read]).changed.length;
  return count;
}

function touchedBy({ keys }: Rows, readChanges: number): number {
  let count = 0;
  for (let from = 0; from < keys.length; from += readChanges)
    count += new Set(keys.slice(from, from + readChanges)).size;
  return count;
}

/** As if so many rows of it each were a transaction. */
function partsOf(transaction: Transaction, rows: number): Transaction[] {
  const parts: Transaction[] = [];
  for (let from = 0; from + 1 < transaction.starts.length; from += rows)
    parts.push({ ...transaction, starts: transaction.starts.slice(from, from + rows + 1) });
  return parts;
}

/** From the request to the registry and out of it again, beside all the others. */
async function measureSubscribing(registry: Registry<object>, shapes: number, parameters: Parameters): Promise<Figure> {
  const { subscriptions, rounds } = parameters;
  const names = new Set(Array.from({ length: shapes }, (_, n) => keyOf(n)));
  const seconds = await inTurn(rounds, {
    ours: () => secondsOf(() => each(subscriptions, (n) => comeAndGo(registry, shapeOf(shapes + n)))),
    floor: () => secondsOf(() => each(subscriptions, (n) => names.add(keyOf(shapes + n)).delete(keyOf(shapes + n)))),
  });
  assert.equal(registry.size, shapes);
  const perSecond = (name: keyof typeof seconds): number => subscriptions / median(seconds[name]);
  return figure("subscribe_unsubscribe_per_s", "per second", perSecond("ours"), perSecond("floor"), {
    conditions: { shapes, kind: "two columns =", subscriptions },
  });
}

function comeAndGo(registry: Registry<object>, shape: Shape): void {
  registry.add(shape, subscriber);
  registry.delete(shape, subscriber);
}

function each(count: number, work: (n: number) => void): void {
  for (let n = 0; n < count; n++) work(n);
}

/** From the text of a message, so that nothing is shared that would not be. */
function shapeOf(n: number): Shape {
  const request = { table: "orders", where: "customer_id = $1 AND status = $2", params: [customer(n), status(n)] };
  return resolveShape(JSON.parse(JSON.stringify(request)) as ShapeRequest, table, true, undefined, false);
}

/** One transaction that inserts all rows. */
function insertOf(rows: Rows): Transaction {
  const messages = Array.from({ length: rows.count }, (_, row) => insertMessage(rows, row));
  const starts = [0];
  for (const message of messages) starts.push(starts.at(-1)! + message.length);
  const { oid, schema, name, replicaIdentity, columns } = table;
  const relation = { oid, schema, name, replicaIdentity, columns: [], signature: relationSignature(columns) };
  return {
    commitEnd: 1n as Lsn,
    xid: 1n,
    commitTime: 0n,
    bytes: Buffer.concat(messages),
    starts,
    relations: [relation],
    schemaChanges: [],
  };
}

function insertMessage(rows: Rows, row: number): Buffer {
  const tuple = new Tuple();
  rows.show(row, tuple);
  const head = Buffer.alloc(8);
  head[0] = messageTags.insert;
  head.writeUInt32BE(table.oid, 1);
  head[5] = 0x4e;
  head.writeUInt16BE(tuple.count, 6);
  return Buffer.concat([head, ...Array.from({ length: tuple.count }, (_, column) => valueOf(tuple, column))]);
}

function valueOf(tuple: Tuple, column: number): Buffer {
  if (tuple.kinds[column] === NULL_VALUE) return Buffer.from([NULL_VALUE]);
  const value = tuple.bytes.subarray(tuple.starts[column], tuple.ends[column]);
  const head = Buffer.from([TEXT_VALUE, 0, 0, 0, 0]);
  head.writeUInt32BE(value.length, 1);
  return Buffer.concat([head, value]);
}

/** What is in use, in V8's heap and beside it. */
function memory(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
