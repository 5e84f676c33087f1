/**
 * From the log to the connections: takes what one read brought, finds the shapes it changes, and gives each connection
 * one frame that covers all of its joined shapes. Everything here happens within one turn of the event loop, so a
 * connection's position is always that of the log's end or waits in its socket.
 */
import type { Logger } from "pino";
import type { Snapshots } from "../changes/snapshot.ts";
import type { Transaction } from "../changes/transaction.ts";
import type { Log } from "../log/log.ts";
import type { ErrorCode, Lsn, SectionOut } from "../protocol.ts";
import { Registry, type Routed } from "../shapes/registry.ts";
import type { FrameCounters, Frames } from "./frames.ts";
import type { Lane } from "./lane.ts";

export interface HubOptions {
  readonly tail: Log;
  readonly snapshots: Snapshots;
  readonly log: Logger;
  /** About the largest payload of one frame, in bytes. */
  readonly frameBytes: number;
  /** A table's description is out of date. */
  readonly onTableChanged: (oid: number) => void;
}

export class Hub {
  readonly live: Registry<Lane>;
  readonly tail: Log;
  readonly snapshots: Snapshots;
  readonly log: Logger;
  readonly frameBytes: number;
  readonly counters: FrameCounters = { sendsDropped: 0, slowConsumers: 0 };
  /** Resyncs so far, by the code of their cause. */
  readonly resyncs = new Map<ErrorCode, number>();
  /** Every greeted connection. */
  readonly connections = new Set<Frames>();
  private readonly onTableChanged: (oid: number) => void;
  private readonly waiting = new Set<Waiting>();

  constructor(options: HubOptions) {
    this.live = new Registry(options.frameBytes);
    this.tail = options.tail;
    this.snapshots = options.snapshots;
    this.log = options.log;
    this.frameBytes = options.frameBytes;
    this.onTableChanged = options.onTableChanged;
  }

  /** What the log has just appended. */
  deliver(transactions: readonly Transaction[]): void {
    this.forgetChanged(transactions);
    const routed = this.live.route(transactions);
    // First: no client may take a shape that misses these transactions for one that has reached their position.
    this.resync(routed.broken);
    this.send(routed);
    this.wakeWaiting();
  }

  /** A table is not what its shapes were resolved against: all of them are loaded anew. */
  tableChanged(oid: number): void {
    this.resync(this.live.entriesOf(oid));
  }

  /** The table's description may be out of date: whoever asks next shall get a new one. */
  forget(oid: number): void {
    this.onTableChanged(oid);
  }

  /** The connection is over: nothing is sent to it, and it waits for nothing. */
  disconnected(frames: Frames): void {
    this.connections.delete(frames);
    for (const waiting of this.waiting) if (waiting.frames === frames) this.release(waiting);
  }

  /** Idle connections learn how far the stream is, and that they are still connected, though nothing may have changed. */
  sendPositions(): void {
    for (const frames of this.connections) if (frames.idle()) frames.frame("position", true, this.tail.end, []);
  }

  sendPosition(frames: Frames): void {
    if (frames.position < this.tail.end) frames.frame("position", true, this.tail.end, []);
  }

  /**
   * Resolves when the log has reached the position, or the connection is over; a barrier sees to it that an idle database
   * gets there too.
   */
  async reached(position: Lsn, frames: Frames): Promise<void> {
    if (this.tail.end >= position) return;
    const passed = new Promise<void>((resolve) => this.waiting.add({ position, frames, resolve }));
    await Promise.race([passed, this.snapshots.commitBarrier()]);
    await passed;
  }

  private forgetChanged(transactions: readonly Transaction[]): void {
    for (const { schemaChanges } of transactions)
      for (const { tableOid } of schemaChanges) this.onTableChanged(tableOid);
  }

  private send({ changed }: Routed<Lane>): void {
    const rounds = changed.reduce((most, { payloads }) => Math.max(most, payloads.length), 0);
    for (let round = 0; round < rounds; round++) this.sendRound(changed, round, round === rounds - 1);
  }

  /** Large payloads leave in rounds; only the last one is a boundary, so nobody shows a part. */
  private sendRound(changed: Routed<Lane>["changed"], round: number, last: boolean): void {
    const sections = new Map<Frames, SectionOut[]>();
    for (const { entry, payloads } of changed) {
      const payload = payloads[round];
      for (const { frames, id } of entry.subscribers) {
        const list = sections.get(frames) ?? [];
        if (list.length === 0) sections.set(frames, list);
        if (payload) list.push({ subscription: id, payload });
      }
    }
    const { end } = this.tail;
    for (const [frames, list] of sections)
      if (last || list.length > 0) frames.frame("commits", last, last ? end : frames.position, list);
  }

  private resync(broken: Routed<Lane>["broken"]): void {
    for (const { shape, subscribers } of broken) {
      this.onTableChanged(shape.table.oid);
      const cause = {
        code: "schema_changed",
        message: `the table ${shape.table.schema}.${shape.table.name} changed: its rows are loaded again`,
      } as const;
      for (const lane of subscribers) lane.resync(cause);
    }
  }

  private wakeWaiting(): void {
    for (const waiting of this.waiting) if (waiting.position <= this.tail.end) this.release(waiting);
  }

  private release(waiting: Waiting): void {
    this.waiting.delete(waiting);
    waiting.resolve();
  }
}

interface Waiting {
  readonly position: Lsn;
  readonly frames: Frames;
  readonly resolve: () => void;
}
