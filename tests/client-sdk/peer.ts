/**
 * The server's side of the protocol, played by a test: a real WebSocket server that says exactly what the test tells it
 * to, with the frame numbers and checksums of a healthy one.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { type WebSocket, WebSocketServer } from "ws";

import {
  type ClientMessage,
  type Commit,
  type Lsn,
  type Operation,
  type ServerMessage,
  type TableDescription,
} from "../../engine/protocol.ts";
import { copyLine, encodeCommits, encodeFrame, type FrameToSend } from "../support/payload.ts";

type Message = ServerMessage extends infer M ? (M extends { frame: number } ? Omit<M, "frame"> : never) : never;

export type Hello = Extract<ClientMessage, { kind: "hello" }>;

export class Peer {
  readonly url: string;
  private readonly server: WebSocketServer;
  private readonly accepted: PeerConnection[] = [];
  /** Those that nobody has taken yet. */
  private readonly connections: PeerConnection[] = [];
  private readonly waiting: ((connection: PeerConnection) => void)[] = [];
  positionEveryMs = 60_000;
  /** What else its welcome says. */
  also: { messageBytes?: number; expiresInMs?: number } = {};

  private constructor(server: WebSocketServer) {
    this.server = server;
    this.url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("connection", (socket) => this.accept(socket));
  }

  static async start(t: TestContext): Promise<Peer> {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    await once(server, "listening");
    const peer = new Peer(server);
    t.after(() => {
      if (t.signal.aborted) for (const what of peer.awaited) t.diagnostic(`still waited for ${what}`);
      for (const client of server.clients) client.terminate();
      server.close();
    });
    return peer;
  }

  /** What did not come. */
  private get awaited(): readonly string[] {
    return [...this.waiting.map(() => "a connection"), ...this.accepted.flatMap(({ awaited }) => awaited)];
  }

  /** The next connection that nobody has taken yet. */
  connection(): Promise<PeerConnection> {
    const connection = this.connections.shift();
    return connection ? Promise.resolve(connection) : new Promise((resolve) => this.waiting.push(resolve));
  }

  /** The next connection, greeted. */
  async greeted(position = 1n): Promise<PeerConnection> {
    const connection = await this.connection();
    await connection.message("hello");
    connection.send({
      kind: "welcome",
      epoch: "epoch",
      position: text(position),
      positionEveryMs: this.positionEveryMs,
      ...this.also,
    });
    return connection;
  }

  /** The next connection, which goes on from where the client says it is. */
  async resuming(position = 1n): Promise<{ connection: PeerConnection; hello: Hello }> {
    const connection = await this.connection();
    const hello = await connection.message("hello");
    const { positionEveryMs } = this;
    connection.send({ kind: "welcome", epoch: "epoch", position: text(position), positionEveryMs, resumes: true });
    return { connection, hello };
  }

  get openCount(): number {
    return this.server.clients.size;
  }

  private accept(socket: WebSocket): void {
    const connection = new PeerConnection(socket);
    this.accepted.push(connection);
    const taker = this.waiting.shift();
    if (taker) taker(connection);
    else this.connections.push(connection);
  }
}

export class PeerConnection {
  readonly socket: WebSocket;
  private readonly received: ClientMessage[] = [];
  private readonly waiting: { kind: string; resolve: (message: ClientMessage) => void }[] = [];
  private number = 0;
  private checksum = 0;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data: Buffer) => this.receive(JSON.parse(data.toString()) as ClientMessage));
  }

  /** The next message of that kind. */
  message<Kind extends ClientMessage["kind"]>(kind: Kind): Promise<Extract<ClientMessage, { kind: Kind }>> {
    type Wanted = Extract<ClientMessage, { kind: Kind }>;
    const at = this.received.findIndex((message) => message.kind === kind);
    if (at >= 0) return Promise.resolve(this.received.splice(at, 1)[0] as Wanted);
    return new Promise((resolve) => this.waiting.push({ kind, resolve: resolve as (message: ClientMessage) => void }));
  }

  get awaited(): readonly string[] {
    return this.waiting.map(({ kind }) => `a message "${kind}"`);
  }

  send(message: Message): void {
    this.socket.send(JSON.stringify({ ...message, frame: ++this.number }));
  }

  frame(frame: FrameToSend): void {
    const { bytes, checksum } = encodeFrame(frame, ++this.number, this.checksum);
    this.checksum = checksum;
    this.socket.send(bytes);
  }

  /** Bytes as they are, counted as one frame. */
  raw(bytes: Buffer): void {
    this.number++;
    this.socket.send(bytes);
  }

  /** Skips a number: a lost frame. */
  lose(): void {
    this.number++;
  }

  describe(
    id: number,
    table: TableDescription,
    estimatedRows = 0,
    load: { readonly load?: string; readonly continues?: boolean } = {},
  ): void {
    this.send({ kind: "described", id, table, estimatedRows, ...load });
  }

  copy(id: number, rows: readonly (readonly (string | null)[])[]): void {
    this.frame({
      kind: "copy",
      position: 0n as Lsn,
      sections: [{ subscription: id, bytes: Buffer.from(rows.map(copyLine).join("")) }],
    });
  }

  join(position: bigint, subscriptions: Readonly<Record<number, readonly Commit[]>>): void {
    this.frame({ kind: "join", position: position as Lsn, sections: sections(subscriptions) });
  }

  catchUp(subscriptions: Readonly<Record<number, readonly Commit[]>>): void {
    this.frame({ kind: "catchUp", position: 0n as Lsn, sections: sections(subscriptions) });
  }

  commits(position: bigint, subscriptions: Readonly<Record<number, readonly Commit[]>>, boundary = true): void {
    this.frame({ kind: "commits", position: position as Lsn, boundary, sections: sections(subscriptions) });
  }

  /** Answers a subscription completely. Returns its id. */
  async serve(
    table: TableDescription,
    rows: readonly (readonly (string | null)[])[],
    position: bigint,
  ): Promise<number> {
    const { id } = await this.message("subscribe");
    this.describe(id, table, rows.length);
    if (rows.length > 0) this.copy(id, rows);
    this.join(position, { [id]: [] });
    return id;
  }

  private receive(message: ClientMessage): void {
    const at = this.waiting.findIndex(({ kind }) => kind === message.kind);
    if (at >= 0) this.waiting.splice(at, 1)[0]!.resolve(message);
    else this.received.push(message);
  }
}

export function commit(position: bigint, ...operations: Operation[]): Commit {
  return { position: position as Lsn, commitTime: 0n, xid: position, operations };
}

export function text(position: bigint): string {
  return `0/${position.toString(16).toUpperCase()}`;
}

/** A description of a table in `public`; columns as "name type". */
export function table(
  name: string,
  columns: readonly string[],
  key: readonly string[] = ["id"],
  rest: Partial<TableDescription> = {},
): TableDescription {
  const described = columns.map((column) => ({
    name: column.slice(0, column.indexOf(" ")),
    type: column.slice(column.indexOf(" ") + 1),
    notNull: false,
  }));
  return { oid: 1, schema: "public", name, version: "1", identity: name, columns: described, key, types: [], ...rest };
}

function sections(
  subscriptions: Readonly<Record<number, readonly Commit[]>>,
): { subscription: number; bytes: Uint8Array }[] {
  return Object.entries(subscriptions).map(([id, commits]) => ({
    subscription: Number(id),
    bytes: encodeCommits(commits),
  }));
}
