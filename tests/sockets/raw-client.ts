/**
 * A client with nothing but a socket: what a test sends is what leaves, what it sees is what came. Every frame is checked
 * for its number and its checksum on the way in, so no test has to.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import {
  type Commit,
  decodeCommits,
  decodeFrame,
  formatLsn,
  type Frame,
  type Lsn,
  parseLsn,
  type ServerMessage,
  type ShapeRequest,
  subprotocol,
  type TableDescription,
  zeroLsn,
} from "../../engine/protocol.ts";
import { inTime } from "../support/until.ts";

export type Control<K extends ServerMessage["kind"] = ServerMessage["kind"]> = Extract<ServerMessage, { kind: K }>;
type Received = { readonly control: ServerMessage } | { readonly frame: Frame };

/** What a subscription brought up to its join. */
export interface Loaded {
  readonly table: TableDescription;
  /** Lines of COPY text. */
  readonly lines: readonly string[];
  /** Transactions replayed on top of them. */
  readonly commits: readonly Commit[];
}

export interface LeftOff {
  readonly epoch: string;
  readonly position: Lsn;
}

export class RawClient {
  readonly socket: WebSocket;
  readonly received: Received[] = [];
  welcome: Control<"welcome"> | undefined;
  /** Of the last boundary. */
  position: Lsn = zeroLsn;
  private readonly ended = Promise.withResolvers<{ readonly code: number; readonly reason: string }>();
  private number = 0;
  private checksum = 0;
  private cursor = 0;
  private wake: () => void = () => {};
  private over = false;

  constructor(url: string, protocols: string | string[] = subprotocol, headers: Readonly<Record<string, string>> = {}) {
    const options = { perMessageDeflate: false, headers };
    this.socket = new WebSocket(url.replace(/^http/, "ws") + "/v1/sync", protocols, options);
    this.socket.on("message", (data: Buffer, isBinary: boolean) => this.take(data, isBinary));
    this.socket.on("error", () => {}); // A refused upgrade is seen by its close.
    this.socket.on("close", (code: number, reason: Buffer) => {
      this.over = true;
      this.wake();
      this.ended.resolve({ code, reason: reason.toString() });
    });
  }

  /** Connected, greeted and welcomed. With `left`, it was here before, and left off there. */
  static async greeted(url: string, token?: string, left?: LeftOff): Promise<RawClient> {
    const client = new RawClient(url);
    await once(client.socket, "open");
    await client.greet(token, left);
    return client;
  }

  async greet(token?: string, left?: LeftOff): Promise<void> {
    const position = left === undefined ? undefined : formatLsn(left.position);
    this.send({ kind: "hello", token, epoch: left?.epoch, position });
    this.welcome = await this.control("welcome");
    if (left && this.position === zeroLsn) this.position = left.position;
  }

  /** How the connection ended. */
  get closed(): Promise<{ readonly code: number; readonly reason: string }> {
    return inTime(this.ended.promise, () => `the connection to end; what came last: ${this.last()}`);
  }

  /** What it would say in its next hello. */
  get left(): LeftOff {
    return { epoch: this.welcome!.epoch, position: this.position };
  }

  send(message: unknown): void {
    this.socket.send(typeof message === "string" || Buffer.isBuffer(message) ? message : JSON.stringify(message));
  }

  subscribe(id: number, shape: ShapeRequest, changes = false): void {
    this.send({ kind: "subscribe", id, shape, ...(changes ? { changes } : {}) });
  }

  /** Says that it has this shape. */
  claim(id: number, shape: ShapeRequest, identity: string, changes = false): void {
    this.send({ kind: "subscribe", id, shape, identity, ...(changes ? { changes } : {}) });
  }

  /** Subscribes, and resolves when the subscription has joined. */
  async load(id: number, shape: ShapeRequest, changes = false): Promise<Loaded> {
    this.subscribe(id, shape, changes);
    return this.joined(id);
  }

  /** What is described again while it loads begins anew. */
  async joined(id: number, described?: TableDescription): Promise<Loaded> {
    let table = described;
    let text = "";
    let commits: Commit[] = [];
    for (;;) {
      const one = await this.until((received) => received, `subscription ${id} to join`);
      if ("control" in one) {
        if (one.control.kind !== "described" || one.control.id !== id) continue;
        ({ table } = one.control);
        text = "";
        commits = [];
        continue;
      }
      const { kind, sections } = one.frame;
      if (!table || kind === "commits") continue;
      for (const { subscription, payload } of sections) {
        if (subscription !== id) continue;
        if (kind === "copy") text += Buffer.from(payload).toString("utf8");
        else commits.push(...decodeCommits(payload));
        if (kind === "join") return { table, commits, lines: text === "" ? [] : text.slice(0, -1).split("\n") };
      }
    }
  }

  /** The error that ends a subscription or an await. */
  async refused(id: number): Promise<Control<"error">["error"]> {
    return (await this.control("error", (message) => message.subscription === id || message.await === id)).error;
  }

  /** The next control message of a kind, passing over what comes before it. */
  async control<K extends ServerMessage["kind"]>(
    kind: K,
    accept: (message: Control<K>) => boolean = () => true,
  ): Promise<Control<K>> {
    return this.until(
      (one) =>
        "control" in one && one.control.kind === kind && accept(one.control as Control<K>)
          ? (one.control as Control<K>)
          : undefined,
      `"${kind}" that is ${String(accept)}`,
    );
  }

  async frame(accept: (frame: Frame) => boolean = () => true): Promise<Frame> {
    return this.until(
      (one) => ("frame" in one && accept(one.frame) ? one.frame : undefined),
      `a frame that is ${String(accept)}`,
    );
  }

  /** The next commit that changes a subscription's rows; there is no other payload in its frame. */
  async commit(id: number): Promise<Commit> {
    const frame = await this.frame(
      (one) => one.kind === "commits" && one.sections.some((section) => section.subscription === id),
    );
    const commits = frame.sections
      .filter((section) => section.subscription === id)
      .flatMap((section) => decodeCommits(section.payload));
    assert.equal(commits.length, 1);
    return commits[0]!;
  }

  /** Every message of a subscription so far, as JSON text, or the key that it names. */
  messages(id: number): string[] {
    return this.received
      .flatMap((one) => ("frame" in one ? one.frame.sections : []))
      .filter(({ subscription, payload }) => subscription === id && payload.length > 0)
      .flatMap(({ payload }) => decodeCommits(payload))
      .flatMap(({ operations }) => operations.map((one) => (one.kind === "insert" ? String(one.row[0]) : one.kind)));
  }

  /** Resolves with the position reached once this transaction's frames have come. */
  async awaitXid(id: number, xid: string): Promise<bigint> {
    this.send({ kind: "await", id, xid });
    return parseLsn((await this.control("awaited", (message) => message.id === id)).position);
  }

  /** How the server answered instead of opening a socket. */
  async refusedUpgrade(): Promise<{ readonly status: number; readonly body: string }> {
    const [, response] = (await once(this.socket, "unexpected-response")) as [unknown, IncomingMessage];
    let body = "";
    for await (const chunk of response) body += String(chunk);
    await this.close();
    return { status: response.statusCode!, body };
  }

  async close(): Promise<void> {
    this.socket.terminate();
    await this.closed;
  }

  private until<T>(pick: (received: Received) => T | undefined, what: string): Promise<T> {
    return inTime(this.picked(pick), () => `${what}; what came last: ${this.last()}`);
  }

  private async picked<T>(pick: (received: Received) => T | undefined): Promise<T> {
    for (;;) {
      while (this.cursor < this.received.length) {
        const found = pick(this.received[this.cursor++]!);
        if (found !== undefined) return found;
      }
      assert(!this.over, `the connection is still there; what came last: ${this.last()}`);
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  private last(): string {
    const last = this.received.at(-1);
    return last ? JSON.stringify("control" in last ? last.control : last.frame.kind) : "nothing";
  }

  private take(data: Buffer, isBinary: boolean): void {
    const received = isBinary ? this.asFrame(data) : this.asControl(data);
    this.received.push(received);
    this.wake();
  }

  private asControl(data: Buffer): Received {
    const control = JSON.parse(data.toString("utf8")) as ServerMessage;
    assert.equal(control.frame, ++this.number);
    return { control };
  }

  private asFrame(data: Buffer): Received {
    const frame = decodeFrame(data, { number: ++this.number, previousChecksum: this.checksum });
    this.checksum = frame.checksum;
    if (frame.boundary) this.position = frame.position;
    return { frame };
  }
}

/** Rows of COPY text as their values; no test here has values with backslashes in them. */
export function rowsOf(lines: readonly string[]): (string | null)[][] {
  return lines.map((line) => line.split("\t").map((value) => (value === "\\N" ? null : value)));
}

/** The transactions of a subscription that a client shows: whole, as what comes without a boundary is only staged. */
export function shownCommits({ received }: RawClient, id: number): Commit[] {
  const shown: Commit[] = [];
  let staged: Commit[] = [];
  for (const one of received) {
    if ("control" in one) {
      if (one.control.kind === "rewind") staged = [];
      continue;
    }
    const { kind, sections, boundary } = one.frame;
    if (kind === "commits")
      for (const { subscription, payload } of sections) if (subscription === id) staged.push(...decodeCommits(payload));
    if (!boundary) continue;
    for (const commit of staged) merge(shown, commit);
    staged = [];
  }
  return shown;
}

/** What one payload could not hold goes on in the next. */
function merge(shown: Commit[], commit: Commit): void {
  const last = shown.at(-1);
  if (last?.xid !== commit.xid) shown.push(commit);
  else shown[shown.length - 1] = { ...last, operations: [...last.operations, ...commit.operations] };
}
