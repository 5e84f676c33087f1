/**
 * A client for tests, written from the description in engine/protocol.ts and sharing nothing with the SDK but the
 * decoders: each subscription's rows are a Map, and it is changed at boundaries only. It is stricter than a real client
 * may be: an insert of a row that is there, an update or a delete of one that is not, or a position that goes back is a
 * failure. So is an update that does not raise the `counter` column by one: no update was lost and none came twice.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { WebSocket } from "ws";
import {
  type AddedColumn,
  type Commit,
  decodeCommits,
  decodeFrame,
  type ErrorJson,
  formatLsn,
  type Frame,
  type Lsn,
  type Operation,
  parseLsn,
  type SectionIn,
  type ServerMessage,
  type ShapeRequest,
  subprotocol,
  type TableDescription,
  type Value,
  zeroLsn,
} from "../../engine/protocol.ts";
import { inTime } from "./until.ts";

export type Row = readonly (string | null)[];

export interface Watched {
  /** The column whose total over the rows shown is kept in `total`. */
  readonly sum?: string;
  /** The column that every update raises by one. */
  readonly counter?: string;
}

export class RawClient {
  readonly shapes = new Map<number, RawShape>();
  /** Called after every boundary, when all shapes show one position. What it throws fails the client. */
  onShown: () => void = () => {};
  position: Lsn = zeroLsn;
  epoch = "";
  /** How many boundaries have been shown. */
  states = 0;
  /** What went wrong, the first time. */
  failure: unknown;
  closed: { readonly code: number; readonly reason: string } | undefined;
  private readonly socket: WebSocket;
  private number = 0;
  private checksum = 0;
  private nextId = 1;
  private readonly awaited = new Set<number>();
  private readonly conditions = new Set<() => void>();

  /** Resolves when the server has said welcome. `url`: the engine's. */
  static async connect(url: string): Promise<RawClient> {
    const client = new RawClient(
      new WebSocket(`${url.replace("http", "ws")}/v1/sync`, subprotocol, { perMessageDeflate: false }),
    );
    await client.until(() => client.epoch !== "", "welcome");
    return client;
  }

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("open", () => this.send({ kind: "hello" }));
    socket.on("message", (data, isBinary) => this.guarded(() => this.receive(data as Buffer, isBinary)));
    socket.on("error", () => {}); // "close" follows.
    socket.on("close", (code, reason) => {
      this.closed = { code, reason: String(reason) };
      this.check();
    });
  }

  /** `changes`: no rows first, only what is new. */
  subscribe(request: ShapeRequest, watched: Watched = {}, changes = false): RawShape {
    const shape = new RawShape(this, this.nextId++, request, watched);
    this.shapes.set(shape.id, shape);
    this.send({ kind: "subscribe", id: shape.id, shape: request, changes });
    return shape;
  }

  async unsubscribe(shape: RawShape): Promise<void> {
    this.send({ kind: "unsubscribe", id: shape.id });
    await this.until(() => shape.status === "over", "unsubscribed");
  }

  /** Resolves when the server has brought this connection to the position. */
  async reach(position: Lsn): Promise<void> {
    const id = this.nextId++;
    this.send({ kind: "await", id, position: formatLsn(position) });
    await this.until(() => this.awaited.has(id), `position ${formatLsn(position)}`);
    assert(this.position >= position, "an await is answered at its position or later");
  }

  /** Resolves once the condition holds; it is asked after every message. Rejects when it cannot hold any more. */
  until(condition: () => boolean, what: string): Promise<void> {
    const held = new Promise<void>((resolve, reject) => {
      const check = (): void => {
        if (condition()) resolve();
        else if (this.failure !== undefined) reject(this.failure);
        else if (this.closed)
          reject(new Error(`the connection closed (${this.closed.code} ${this.closed.reason}) before ${what}`));
        else return;
        this.conditions.delete(check);
      };
      this.conditions.add(check);
      check();
    });
    return inTime(held, () => what);
  }

  /** The wire is cut: no goodbye. */
  async drop(): Promise<void> {
    this.socket.terminate();
    await this.until(() => this.closed !== undefined, "the end");
  }

  private send(message: object): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private guarded(work: () => void): void {
    if (this.failure !== undefined) return;
    try {
      work();
    } catch (error) {
      this.failure = error;
      this.socket.terminate();
    }
    this.check();
  }

  private check(): void {
    for (const check of [...this.conditions]) check();
  }

  private receive(data: Buffer, isBinary: boolean): void {
    if (!isBinary) return this.control(JSON.parse(data.toString()) as ServerMessage);
    const frame = decodeFrame(data, { number: this.number + 1, previousChecksum: this.checksum });
    this.number = frame.number;
    this.checksum = frame.checksum;
    this.frame(frame);
  }

  private control(message: ServerMessage): void {
    assert.equal(message.frame, this.number + 1, "every message takes the next number");
    this.number = message.frame;
    switch (message.kind) {
      case "welcome":
        this.position = parseLsn(message.position);
        this.epoch = message.epoch;
        return;
      case "awaited":
        this.awaited.add(message.id);
        return;
      case "pong":
        return;
      case "error":
        if (message.subscription === undefined) throw new Error(`${message.error.code}: ${message.error.message}`);
        return this.shape(message.subscription).fail(message.error);
      case "described":
        return this.shape(message.id).describe(message.table);
      case "resync":
        return this.shape(message.id).resync(message.cause);
      case "altered":
        return this.shape(message.id).alter(message);
      case "rewind":
        for (const shape of this.shapes.values()) shape.rewind();
        return;
      case "unsubscribed":
        return this.shape(message.id).end();
      case "audit":
        return this.send({ kind: "audited", id: message.id, matches: this.shape(message.id).audit(message) });
      case "resumed":
        return assert.fail("a connection that begins anew resumes nothing");
      case "meeting":
      case "listening":
        return assert.fail("a client of rows listens to nothing");
      case "access":
      case "authenticated":
        assert.fail("a client that has no token does not renew it");
    }
  }

  private frame(frame: Frame): void {
    for (const section of frame.sections) this.shape(section.subscription).receive(frame, section);
    if (!frame.boundary) return;
    assert(
      frame.position >= this.position,
      `a position never goes back: ${formatLsn(this.position)} before ${formatLsn(frame.position)}`,
    );
    this.position = frame.position;
    for (const shape of this.shapes.values()) shape.boundary(this.position);
    this.states++;
    this.onShown();
  }

  private shape(id: number): RawShape {
    const shape = this.shapes.get(id);
    assert(shape, `the server speaks of subscriptions that were asked for, not of ${id}`);
    return shape;
  }
}

export type ShapeStatus = "loading" | "ready" | "resyncing" | "error" | "over";

interface Altered {
  readonly table: TableDescription;
  readonly added: readonly AddedColumn[];
}

export class RawShape {
  readonly client: RawClient;
  readonly id: number;
  readonly request: ShapeRequest;
  status: ShapeStatus = "loading";
  table: TableDescription | undefined;
  error: ErrorJson | undefined;
  /** By key. What is shown: during a resync, what was. */
  rows: ReadonlyMap<string, Row> = new Map();
  /** Of the `sum` column over the rows shown. */
  total = 0;
  resyncs = 0;
  joins = 0;
  /** Frames of first rows that came, for this load or an earlier one. */
  copies = 0;
  /** How often the server asked what its rows sum up to. */
  audits = 0;
  /** Every transaction that changed this shape, as seen, with its position. */
  readonly xids = new Map<bigint, Lsn>();
  private readonly watched: Watched;
  private replica: Replica | undefined;
  private loading: Replica | undefined;
  private catchUp: Uint8Array[] = [];
  private staged: (Uint8Array | Altered)[] = [];
  private hasJoined = false;

  constructor(client: RawClient, id: number, request: ShapeRequest, watched: Watched) {
    this.client = client;
    this.id = id;
    this.request = request;
    this.watched = watched;
  }

  get isReady(): boolean {
    return this.status === "ready";
  }

  ready(): Promise<void> {
    return this.client.until(
      () => {
        if (this.status === "error") throw new Error(`${this.error?.code}: ${this.error?.message}`);
        return this.isReady;
      },
      `${this.request.table} where ${this.request.where ?? "true"} is ready`,
    );
  }

  /** A row that is shown, by key and column. */
  value(key: string, column: string): string | null | undefined {
    const position = this.table!.columns.findIndex(({ name }) => name === column);
    return this.rows.get(key)?.[position];
  }

  describe(table: TableDescription): void {
    assert(
      this.status === "loading" || this.status === "resyncing",
      `a description comes before the first row, not when ${this.status}`,
    );
    assert(!this.loading, "one description per load");
    this.table = this.replica ? this.table : table;
    this.loading = new Replica(table, this.watched);
  }

  resync(cause: ErrorJson): void {
    assert(cause.code.length > 0, "a resync says why");
    this.resyncs++;
    if (this.replica) this.status = "resyncing";
    this.loading = undefined;
    this.catchUp = [];
    this.staged = [];
  }

  alter(altered: Altered): void {
    assert.equal(this.status, "ready", "what is altered in place has joined");
    this.staged.push(altered);
  }

  rewind(): void {
    this.staged = [];
  }

  /** A shape that is loaded anew since the server asked is not what it asked about. */
  audit({ rows, hash }: { readonly rows: string; readonly hash: string }): boolean {
    this.audits++;
    if (!this.isReady) return true;
    const sum = this.rows.values().reduce((total, row) => total + hashOf(row), 0n);
    assert.deepEqual(
      [String(this.rows.size), String(sum)],
      [rows, hash],
      `${this.request.table}: what Postgres sums up`,
    );
    return true;
  }

  fail(error: ErrorJson): void {
    this.error = error;
    this.status = "error";
  }

  end(): void {
    this.status = "over";
  }

  receive(frame: Frame, section: SectionIn): void {
    if (this.status === "over" || this.status === "error") return;
    if (frame.kind === "commits") return this.stage(section);
    assert(this.loading, `a ${frame.kind} frame follows a description`);
    if (frame.kind === "copy") this.copy(section);
    else if (frame.kind === "catchUp") this.catchUp.push(section.payload);
    else this.join(section);
  }

  boundary(position: Lsn): void {
    if (this.hasJoined) return this.swap(position);
    if (this.staged.length === 0) return;
    for (const one of this.staged)
      if (one instanceof Uint8Array) this.apply(this.replica!, one, position);
      else this.replica!.alter(one);
    this.staged = [];
    this.show();
  }

  private copy(section: SectionIn): void {
    this.copies++;
    this.loading!.copy(section.payload);
  }

  private stage(section: SectionIn): void {
    assert.equal(this.status, "ready", "commits come to shapes that have joined");
    this.staged.push(section.payload);
  }

  private join(section: SectionIn): void {
    this.catchUp.push(section.payload);
    this.hasJoined = true;
  }

  private swap(position: Lsn): void {
    const { loading } = this;
    assert(loading, "a join ends a load");
    for (const payload of this.catchUp) this.apply(loading, payload, position);
    this.replica = loading;
    this.loading = undefined;
    this.catchUp = [];
    this.hasJoined = false;
    this.status = "ready";
    this.joins++;
    this.show();
  }

  private apply(replica: Replica, payload: Uint8Array, position: Lsn): void {
    for (const commit of decodeCommits(payload)) {
      assert(commit.position <= position, "no transaction is shown before its position");
      this.xids.set(commit.xid, commit.position);
      replica.apply(commit);
    }
  }

  private show(): void {
    this.rows = this.replica!.rows;
    this.table = this.replica!.table;
    this.total = this.replica!.total;
  }
}

class Replica {
  table: TableDescription;
  readonly rows = new Map<string, Row>();
  total = 0;
  private last: Lsn = zeroLsn;
  private readonly key: readonly number[];
  private readonly sum: number;
  private readonly counter: number;

  constructor(table: TableDescription, { sum, counter }: Watched) {
    const position = (name: string | undefined): number => table.columns.findIndex((column) => column.name === name);
    this.table = table;
    this.key = table.key.map(position);
    this.sum = position(sum);
    this.counter = position(counter);
  }

  copy(lines: Uint8Array): void {
    const text = Buffer.from(lines).toString();
    assert(text.endsWith("\n"), "a copy frame holds whole lines");
    for (const line of text.slice(0, -1).split("\n")) this.put(line.split("\t").map(copyValue));
  }

  /** New columns are the last ones. */
  alter({ table, added }: Altered): void {
    const names = [...this.table.columns, ...added].map(({ name }) => name);
    assert.deepEqual(
      table.columns.map(({ name }) => name),
      names,
      "a table that is altered has its columns, and then those that were added",
    );
    this.table = table;
    for (const [key, row] of this.rows) this.rows.set(key, [...row, ...added.map(({ value }) => value)]);
  }

  apply({ position, operations }: Commit): void {
    assert(position >= this.last, "transactions come in commit order");
    this.last = position;
    for (const operation of operations) this.operate(operation);
  }

  private operate(operation: Operation): void {
    switch (operation.kind) {
      case "insert":
        return this.put(operation.row.map(present));
      case "update":
        return this.update(operation.row, operation.oldKey);
      case "delete":
        return void this.take(keyText(operation.key!));
      case "truncate":
        this.rows.clear();
        this.total = 0;
    }
  }

  private update(changed: readonly Value[], oldKey: readonly Value[] | undefined): void {
    const old = this.take(keyText(oldKey ?? this.key.map((column) => changed[column])));
    const row = changed.map((value, i) => (value === undefined ? old[i]! : value));
    if (this.counter >= 0)
      assert.equal(
        Number(row[this.counter]),
        Number(old[this.counter]) + 1,
        `${this.table.name}: an update follows the last one of its row: ${shown(old)} then ${shown(row)}`,
      );
    this.put(row);
  }

  private put(row: Row): void {
    const key = keyText(this.key.map((column) => row[column]));
    assert(!this.rows.has(key), `${this.table.name}: a row that comes was not there: ${shown(row)}`);
    this.rows.set(key, row);
    if (this.sum >= 0) this.total += Number(row[this.sum]);
  }

  private take(key: string): Row {
    const row = this.rows.get(key);
    assert(row, `${this.table.name}: a row that changes or goes was there: ${key}`);
    this.rows.delete(key);
    if (this.sum >= 0) this.total -= Number(row[this.sum]);
    return row;
  }
}

/** docs/protocol.md, `audit`. */
function hashOf(row: Row): bigint {
  const text = row.map((value) => (value === null ? "n" : `${Array.from(value).length}:${value}`)).join("");
  return BigInt.asIntN(64, BigInt(`0x${createHash("md5").update(text).digest("hex").slice(0, 16)}`));
}

function keyText(key: readonly Value[]): string {
  return key.length === 1 ? String(key[0]) : JSON.stringify(key);
}

function present(value: Value): string | null {
  assert(value !== undefined, "a row that comes has all of its values");
  return value;
}

function shown(row: Row): string {
  return row.join().slice(0, 80);
}

const escapes: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\" };

/** https://www.postgresql.org/docs/current/sql-copy.html, Text Format. */
function copyValue(field: string): string | null {
  return field === "\\N" ? null : field.replace(/\\(.)/g, (_, escaped: string) => escapes[escaped] ?? escaped);
}
