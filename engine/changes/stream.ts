/**
 * The replication connection: START_REPLICATION through pg-logical-replication's service, pgoutput in, whole
 * transactions out, once per socket read, and status updates back.
 *
 * The service opens the connection and starts the stream; from there its connection is driven directly. Its own
 * listener would make two strings and an event per message, and its `acknowledge()` confirms one byte too many: a commit
 * record that starts right there would never be sent again. So every status update is written here, byte-exact.
 *
 * A Stream lives for one connection: open, streaming, over. Whoever owns it opens the next one.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import type { Socket } from "node:net";
import type pg from "pg";
import { LogicalReplicationService, PgoutputPlugin } from "pg-logical-replication";
import { WalcastError } from "../errors.ts";
import { type Lsn, lsnFromHalves, zeroLsn } from "../protocol.ts";
import { replicationConfig } from "./connection.ts";
import { Lag, XLOG_HEADER_BYTES } from "./lag.ts";
import { type Transaction, TransactionAssembler } from "./transaction.ts";

export interface StreamOptions {
  readonly databaseUrl: string;
  readonly slot: string;
  readonly publication: string;
  /** A third of it is the rhythm of our status updates; 0 means that the server never times out. */
  readonly walSenderTimeoutMs: number;
  readonly recentXid: bigint;
}

export interface StreamEvents {
  /** The transactions that one socket read completed, in commit order. Called between reads, never within one. */
  readonly onTransactions: (transactions: Transaction[]) => void;
  /** Everything before `walEnd` has been sent to us, and nothing is half received. */
  readonly onQuiet: (walEnd: Lsn) => void;
  /** What may be acknowledged: all of it has been handed on. */
  readonly acknowledged: () => Lsn;
}

const XLOG_DATA = 0x77; // 'w'
const KEEPALIVE = 0x6b; // 'k'
const MICROSECONDS_TO_2000 = 946_684_800_000_000n;

// While the server is behind, reads are pooled: the walsender makes one send() per message, and a reader that takes each
// one alone slows both sides.
const poolMs = 1;

const fallbackStatusMs = 10_000;

export class Stream {
  private readonly options: StreamOptions;
  private readonly events: StreamEvents;
  private readonly assembler: TransactionAssembler;
  private readonly service: LogicalReplicationService;
  private connection: ReplicationConnection | undefined;
  private completed: Transaction[] = [];
  private received = zeroLsn;
  private readonly lag = new Lag();
  private quietAt: Lsn | undefined;
  private heardAt = performance.now();
  private statusTimer: NodeJS.Timeout | undefined;
  private poolTimer: NodeJS.Timeout | undefined;
  private failure: unknown;
  /** Socket reads, and how many of them the next one was made to wait for. */
  reads = 0;
  pooledReads = 0;

  constructor(options: StreamOptions, events: StreamEvents) {
    this.options = options;
    this.events = events;
    this.assembler = new TransactionAssembler(options.recentXid);
    // The service's timer would acknowledge what was merely received, `auto: false` or not: 0 keeps it off.
    this.service = new LogicalReplicationService(replicationConfig(options.databaseUrl, "walcast"), {
      acknowledge: { auto: false, timeoutSeconds: 0 },
    });
  }

  /** Streams until the connection ends: resolves after `stop`, rejects when it broke. `onStart` marks the first moment of streaming. */
  async run(onStart: () => void): Promise<void> {
    this.service.on("error", (error: unknown) => (this.failure ??= error));
    const plugin = new DirectPlugin(this.options.publication, (connection) => this.attach(connection, onStart));
    try {
      const streaming = this.service.subscribe(plugin, this.options.slot, "0/00000000");
      setImmediate(() => this.listenEarly());
      await streaming;
      if (this.failure !== undefined) throw this.failure;
    } finally {
      clearInterval(this.statusTimer);
      clearTimeout(this.poolTimer);
      this.connection?.stream.destroy();
    }
  }

  /**
   * The service listens to its client's errors only once it has connected, and one that comes in the same read would end
   * the process. By now the client exists, and no answer can have come yet.
   */
  private listenEarly(): void {
    const { _client } = this.service as unknown as { _client: pg.Client | null };
    _client?.on("error", (error) => (this.failure ??= error));
  }

  /** Tells the server what is safe, once more, and ends the connection. */
  async stop(): Promise<void> {
    this.sendStatus(false);
    await this.service.destroy();
  }

  /** How long ago anything was heard from the server, in ms. */
  get silentMs(): number {
    return performance.now() - this.heardAt;
  }

  /** Writes a status update now: the acknowledgement moved and somebody wants Postgres to know. */
  sendStatus(replyRequested: boolean): void {
    if (!this.connection?.stream.writable) return;
    this.connection.sendCopyFromChunk(statusUpdate(this.received, this.events.acknowledged(), replyRequested));
  }

  private attach(connection: ReplicationConnection, onStart: () => void): void {
    this.connection = connection;
    connection.removeAllListeners("copyData");
    connection.on("copyData", ({ chunk }) => this.receive(chunk));
    // pg's parser listens first, so this runs when the read has been taken apart.
    connection.stream.on("data", () => this.endOfRead());
    connection.stream.setNoDelay(true);
    connection.once("replicationStart", () => {
      this.startStatusTimer();
      onStart();
    });
  }

  private startStatusTimer(): void {
    const { walSenderTimeoutMs } = this.options;
    // A third of wal_sender_timeout: one lost update still leaves time for the next.
    const everyMs = walSenderTimeoutMs > 0 ? Math.min(walSenderTimeoutMs / 3, fallbackStatusMs) : fallbackStatusMs;
    this.statusTimer = setInterval(() => this.watch(everyMs), everyMs);
  }

  /** The server speaks at least twice per wal_sender_timeout; a socket that stays silent for longer is half open. */
  private watch(everyMs: number): void {
    if (this.options.walSenderTimeoutMs > 0 && this.silentMs > this.options.walSenderTimeoutMs) {
      this.failure ??= new WalcastError(
        "not_streaming",
        `replication: nothing was heard from Postgres for ${Math.round(this.silentMs)} ms`,
      );
      this.connection?.stream.destroy();
      return;
    }
    // Where the server never times out it never asks either: ask ourselves, so that silence means something.
    this.sendStatus(this.silentMs > everyMs);
  }

  private receive(chunk: Buffer): void {
    if (chunk[0] === XLOG_DATA) this.receiveData(chunk);
    else if (chunk[0] === KEEPALIVE) this.receiveKeepalive(chunk);
    else
      throw new WalcastError(
        "malformed_message",
        `read the replication stream: expected XLogData or a keepalive, found tag ${chunk[0]}`,
      );
  }

  private receiveData(chunk: Buffer): void {
    this.lag.note(chunk);
    const transaction = this.assembler.receive(chunk, XLOG_HEADER_BYTES, chunk.length);
    if (!transaction) return;
    this.completed.push(transaction);
    this.received = transaction.commitEnd;
  }

  private receiveKeepalive(chunk: Buffer): void {
    const walEnd = lsnFromHalves(chunk.readUInt32BE(1), chunk.readUInt32BE(5));
    if (walEnd > this.received) this.received = walEnd;
    if (!this.assembler.inTransaction) this.quietAt = walEnd;
    if (chunk[17] === 1) this.sendStatus(false);
  }

  private endOfRead(): void {
    this.reads++;
    this.heardAt = performance.now();
    if (this.completed.length > 0) this.handOn();
    if (this.quietAt !== undefined) this.events.onQuiet(this.quietAt);
    this.quietAt = undefined;
    if (this.lag.isBehind) this.pool();
  }

  private handOn(): void {
    const transactions = this.completed;
    this.completed = [];
    this.events.onTransactions(transactions);
  }

  /** Lets the kernel gather more before the next read. */
  private pool(): void {
    const stream = this.connection?.stream;
    if (!stream || stream.destroyed) return;
    this.pooledReads++;
    this.lag.reset();
    stream.pause();
    this.poolTimer = setTimeout(() => stream.resume(), poolMs);
  }
}

interface ReplicationConnection {
  readonly stream: Socket;
  on(event: "copyData", listener: (message: { chunk: Buffer }) => void): unknown;
  once(event: "replicationStart", listener: () => void): unknown;
  removeAllListeners(event: string): unknown;
  sendCopyFromChunk(chunk: Buffer): void;
}

/** Starts pgoutput and hands the connection over; it never gets to parse anything. */
class DirectPlugin extends PgoutputPlugin {
  private readonly attach: (connection: ReplicationConnection) => void;

  constructor(publication: string, attach: (connection: ReplicationConnection) => void) {
    // Names in publication_names are identifiers inside a literal: both kinds of quotes are doubled.
    const name = `"${publication.replaceAll('"', '""').replaceAll("'", "''")}"`;
    super({ protoVersion: 1, publicationNames: [name], messages: true });
    this.attach = attach;
  }

  override start(client: pg.Client, slot: string, lsn: string): Promise<unknown> {
    this.attach((client as unknown as { connection: ReplicationConnection }).connection);
    return super.start(client, slot, lsn);
  }

  override parse(): never {
    throw new WalcastError(
      "invariant",
      "pg-logical-replication handed a message to the plugin although its listener was taken off",
    );
  }
}

/** Standby status update. Written and flushed are told apart, so that the server's view of our lag is true. */
export function statusUpdate(received: Lsn, acknowledged: Lsn, replyRequested: boolean): Buffer {
  const message = Buffer.alloc(34);
  message[0] = 0x72; // 'r'
  message.writeBigUInt64BE(received > acknowledged ? received : acknowledged, 1);
  message.writeBigUInt64BE(acknowledged, 9);
  message.writeBigUInt64BE(acknowledged, 17);
  message.writeBigInt64BE(BigInt(Date.now()) * 1000n - MICROSECONDS_TO_2000, 25);
  message[33] = replyRequested ? 1 : 0;
  return message;
}
