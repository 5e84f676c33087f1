/**
 * The replication connection: START_REPLICATION through pg-logical-replication's service, pgoutput in, whole
 * transactions out, once per socket read, and status updates back.
 *
 * The service opens the connection and starts the stream; from there its socket is read directly. Its own
 * listener would make two strings and an event per message, and its `acknowledge()` confirms one byte too many: a commit
 * record that starts right there would never be sent again. So every status update is written here, byte-exact.
 *
 * Nothing is read while what was read before is still on its way to a disk, in here or behind us: the socket waits, and
 * with it Postgres. Status updates go by a timer and do not wait.
 *
 * A Stream lives for one connection: open, streaming, over. Whoever owns it opens the next one.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import pg from "pg";
import { LogicalReplicationService } from "pg-logical-replication";
import { WalcastError } from "../errors.ts";
import { type Lsn, zeroLsn } from "../protocol.ts";
import { TransactionAssembler } from "./assembler.ts";
import { CommitOrder } from "./commit-order.ts";
import { breakOff, replicationConfig } from "./connection.ts";
import { CopyMessages } from "./copy-messages.ts";
import { DirectPlugin, type ReplicationConnection } from "./direct-plugin.ts";
import { Lag } from "./lag.ts";
import {
  readReplicationMessage,
  type ReplicationEvents,
  statusUpdate,
  XLOG_HEADER_BYTES,
} from "./replication-protocol.ts";
import { readInto } from "./replication-socket.ts";
import { Rush } from "./rush.ts";
import { Staging } from "./staging.ts";
import type { Transaction } from "./transaction.ts";

export interface StreamOptions {
  readonly databaseUrl: string;
  readonly slot: string;
  readonly publication: string;
  /** A third of it is the rhythm of our status updates; 0 means that the server never times out. */
  readonly walSenderTimeoutMs: number;
  readonly recentXid: bigint;
  /** Made when it is needed, emptied with each connection, so of one Stream at a time. On the log's file system. */
  readonly stagingDirectory: string;
  /** A transaction with more bytes than that is handed on as a file. Default 8 MiB. */
  readonly largeTransactionBytes?: number;
  /** Only transactions that have committed, none while it runs. */
  readonly committedOnly?: boolean;
  /** As Prepared has it. Without it nobody's messages are handed on. */
  readonly messagePrefix?: string;
  readonly rush?: Rush;
}

export interface StreamEvents {
  /**
   * The transactions that one socket read completed, in commit order. Called between reads, never within one. The file of
   * a large one is the receiver's from here on: it has to be moved before the call returns, or deleted.
   */
  readonly onTransactions: (transactions: Transaction[]) => void;
  /** Everything before `walEnd` has been sent to us, and nothing is half received. */
  readonly onQuiet: (walEnd: Lsn) => void;
  /** Nothing was heard for too long: packets go nowhere, and those of other connections may, too. */
  readonly onSilence?: () => void;
  /** What may be acknowledged: all of it has been handed on. */
  readonly acknowledged: () => Lsn;
  /** Bytes that were handed on and that the log has not written yet. Above a bound nothing more is read. */
  readonly pendingBytes: () => number;
}

// While the server is behind, or commits come in a rush, reads are pooled: the walsender makes one send() per message, and a reader that
// takes each one alone slows both sides. The same pause, again and again, while a disk has to catch up.
const pauseMs = 1;

const statusMsMax = 10_000;
// Where the server never times out it is still expected to answer within this time.
const fallbackTimeoutMs = 60_000;

const defaultLargeTransactionBytes = 8 * 1024 * 1024;
// What may be on its way to a disk before reading stops; one more read is on top, and that may be one huge message.
const stagingPendingBytesMax = 8 * 1024 * 1024;
const logPendingBytesMax = 16 * 1024 * 1024;

export class Stream {
  private readonly options: StreamOptions;
  private readonly events: StreamEvents;
  private readonly staging: Staging;
  private readonly assembler: TransactionAssembler;
  private readonly completed: CommitOrder;
  private readonly service: LogicalReplicationService;
  private connection: ReplicationConnection | undefined;
  private received = zeroLsn;
  private readonly lag = new Lag();
  private readonly rush: Rush;
  private readonly replication: ReplicationEvents = {
    onXLogData: (bytes, start, end) => this.receiveData(bytes, start, end),
    onKeepalive: (walEnd, replyRequested) => this.receiveKeepalive(walEnd, replyRequested),
  };
  private quietAt: Lsn | undefined;
  private silentTicks = 0;
  private statusTimer: NodeJS.Timeout | undefined;
  private pauseTimer: NodeJS.Timeout | undefined;
  private failure: unknown;
  private stopping = false;
  private over = false;
  /** Socket reads, and how many of them the next one was made to wait for. */
  reads = 0;
  pooledReads = 0;

  constructor(options: StreamOptions, events: StreamEvents) {
    this.options = options;
    this.events = events;
    this.rush = options.rush ?? new Rush();
    this.staging = new Staging(options.stagingDirectory, (error) => this.fail(error));
    const largeBytes = options.largeTransactionBytes ?? defaultLargeTransactionBytes;
    this.assembler = new TransactionAssembler(options.recentXid, this.staging, largeBytes, options.messagePrefix);
    this.completed = new CommitOrder(
      () => this.guard(() => this.handOn()),
      (error) => this.fail(error),
    );
    // The service's timer would acknowledge what was merely received, `auto: false` or not: 0 keeps it off.
    this.service = new LogicalReplicationService(replicationConfig(options.databaseUrl, "walcast"), {
      acknowledge: { auto: false, timeoutSeconds: 0 },
    });
  }

  /** Streams until the connection ends: resolves after `stop`, rejects when it broke. `onStart` marks the first moment of streaming. */
  async run(onStart: () => void): Promise<void> {
    this.service.on("error", (error: unknown) => (this.failure ??= error));
    const plugin = new DirectPlugin(this.options, (connection) => this.attach(connection, onStart));
    try {
      await this.staging.open();
      if (this.stopping) return;
      const streaming = this.service.subscribe(plugin, this.options.slot, "0/00000000");
      setImmediate(() => this.listenEarly());
      await streaming;
    } catch (error) {
      // Where we broke it off ourselves, the reason came first.
      this.failure ??= error;
    } finally {
      await this.end();
    }
    if (this.failure !== undefined) throw this.failure;
  }

  private async end(): Promise<void> {
    this.over = true;
    clearInterval(this.statusTimer);
    clearTimeout(this.pauseTimer);
    this.connection?.stream.destroy();
    await this.staging.close();
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    this.connection?.stream.destroy();
  }

  /**
   * The service listens to its client's errors only once it has connected, and one that comes in the same read would end
   * the process. By now the client exists, and no answer can have come yet.
   */
  private listenEarly(): void {
    this.client?.on("error", (error) => (this.failure ??= error));
  }

  private get client(): pg.Client | null {
    return (this.service as unknown as { _client: pg.Client | null })._client;
  }

  /** Tells the server what is safe, once more, and ends the connection. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.sendStatus(false);
    if (this.connection) await this.service.destroy();
    // A goodbye would never be answered where nobody says hello.
    else if (this.client) breakOff(this.client);
  }

  /** Writes a status update now: the acknowledgement moved and somebody wants Postgres to know. */
  sendStatus(replyRequested: boolean): void {
    if (!this.connection?.stream.writable) return;
    this.connection.sendCopyFromChunk(statusUpdate(this.received, this.events.acknowledged(), replyRequested));
  }

  private attach(connection: ReplicationConnection, onStart: () => void): void {
    this.connection = connection;
    const { stream } = connection;
    const [parse] = stream.listeners("data") as ((bytes: Buffer) => void)[];
    const messages = new CopyMessages({
      onData: (bytes, start, end) => readReplicationMessage(bytes, start, end, this.replication),
      // Errors, notices, and the beginning and the end of the stream are for pg's parser.
      onOther: (message) => parse!(message),
    });
    readInto(stream, (bytes, length) => this.guard(() => this.read(messages, bytes, length)));
    stream.setNoDelay(true);
    connection.once("replicationStart", () => {
      this.startStatusTimer();
      onStart();
    });
  }

  private startStatusTimer(): void {
    const timeoutMs = this.options.walSenderTimeoutMs || fallbackTimeoutMs;
    // A third of wal_sender_timeout: one lost update still leaves time for the next.
    const everyMs = Math.min(timeoutMs / 3, statusMsMax);
    const silentTicksMax = Math.ceil(timeoutMs / everyMs);
    this.statusTimer = setInterval(() => this.tick(silentTicksMax), everyMs);
  }

  /**
   * The server speaks at least twice per wal_sender_timeout, and is asked to; a socket that stays silent for longer is half
   * open. Counted in ticks: while this process has no time to read, or does not want to, it is not the server that is silent.
   */
  private tick(silentTicksMax: number): void {
    this.silentTicks = this.connection!.stream.isPaused() ? 0 : this.silentTicks + 1;
    if (this.silentTicks <= silentTicksMax) return this.sendStatus(this.silentTicks > 1);
    this.fail(new WalcastError("not_streaming", "replication: nothing was heard from Postgres for wal_sender_timeout"));
    this.events.onSilence?.();
  }

  /** What must hold and does not ends this connection, not the process. Nothing that follows in the same read is looked at. */
  private guard(run: () => void): void {
    if (this.failure !== undefined) return;
    try {
      run();
    } catch (error) {
      this.fail(error);
    }
  }

  private read(messages: CopyMessages, bytes: Buffer, length: number): void {
    this.reads++;
    this.silentTicks = 0;
    messages.push(bytes, length);
    this.handOn();
    if (this.lag.isBehind || this.rush.isOn) this.pool();
    else if (this.isHeldUp) this.pause();
  }

  /** bytes[start … end) are an XLogData, header included. */
  private receiveData(bytes: Buffer, start: number, end: number): void {
    this.lag.note(bytes, start);
    const transaction = this.assembler.receive(bytes, start + XLOG_HEADER_BYTES, end);
    if (transaction) this.completed.push(transaction);
  }

  private receiveKeepalive(walEnd: Lsn, replyRequested: boolean): void {
    if (walEnd > this.received) this.received = walEnd;
    // Also where a transaction that still runs has been sent in part: it is sent again, whole, unless its commit is
    // acknowledged, and that will be further on.
    if (!this.assembler.inTransaction) this.quietAt = walEnd;
    if (replyRequested) this.sendStatus(false);
  }

  private handOn(): void {
    if (this.over) return;
    const transactions = this.completed.take();
    this.rush.note(transactions.length, performance.now());
    if (transactions.length > 0) {
      this.received = transactions.at(-1)!.commitEnd;
      this.events.onTransactions(transactions);
    }
    if (this.completed.isWaiting || this.quietAt === undefined) return;
    this.events.onQuiet(this.quietAt);
    this.quietAt = undefined;
  }

  // ── Not reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Lets the kernel gather more before the next read. */
  private pool(): void {
    this.pooledReads++;
    this.lag.reset();
    this.pause();
  }

  private pause(): void {
    const stream = this.connection?.stream;
    if (!stream || stream.destroyed) return;
    stream.pause();
    clearTimeout(this.pauseTimer);
    this.pauseTimer = setTimeout(() => (this.isHeldUp ? this.pause() : stream.resume()), pauseMs);
  }

  private get isHeldUp(): boolean {
    return (
      this.completed.isWaiting ||
      this.staging.pendingBytes > stagingPendingBytesMax ||
      this.events.pendingBytes() > logPendingBytesMax
    );
  }
}

/**
 * The walsender came upon what cannot be, as error class XX tells. Of a transaction that runs, it sees the catalog as it is in
 * the middle of it, and on 18 too a TRUNCATE and a rollback to a savepoint in one transaction may end with "could not map
 * filenumber", at the same place every time. What has committed it can read.
 */
export function isDecodingFailure(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code?.startsWith("XX") === true;
}
