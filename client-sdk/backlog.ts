/**
 * What a connection has received and the replica has not yet taken, in order. Working it off is a loop that takes all
 * whole transactions waiting (within a bound) as one local transaction, lets the live queries look at that state, and
 * only then tells anybody. Until the replica is open, what needs none is done ahead of that (see ahead.ts).
 */
import type { Lsn, WalcastError } from "../engine/protocol.ts";
import { Ahead } from "./ahead.ts";
import type { Load } from "./joins.ts";
import type { Lane } from "./lane.ts";
import { asReplicaFailure } from "./query-errors.ts";
import type { Replica } from "./replica.ts";
import { Turn, type TurnHooks } from "./turn.ts";
import { nextTask } from "./next-task.ts";
import { abandon, outlastsStream, spilledIn, type Transaction, type Work } from "./work.ts";

export interface BacklogHooks extends TurnHooks {
  /** Nobody wants rows, and everything else up to here was told. */
  told(position: Lsn): void;
  /** The stream cannot be trusted or applied any more: begin again. */
  breach(error: WalcastError): void;
}

// One local transaction of this size takes some tens of milliseconds; a browser should get to paint in between.
const BATCH_BYTES_MAX = 1 << 20;

// Turns follow one another without the page, or who asks over a port, getting a turn of their own; after this much they do.
const TASK_BYTES_MAX = 1 << 18;

export class Backlog {
  private readonly replica: Promise<Replica>;
  private readonly hooks: BacklogHooks;
  private readonly ahead: Ahead;
  /** What comes is worked off on the replica. */
  isOpen = false;
  private queue: Work[] = [];
  /** Those that have joined, until their rows stand in their table. */
  private readonly joined = new Map<Load, Lane>();
  private isWorking = false;
  /** Worked off since anything else could run. */
  private taskBytes = 0;
  private closed: WalcastError | undefined;

  /** `isOpening`: there will be a replica, perhaps with a position of its own. */
  constructor(replica: Promise<Replica>, isOpening: boolean, hooks: BacklogHooks) {
    this.replica = replica;
    this.hooks = hooks;
    this.ahead = new Ahead(isOpening, {
      ...hooks,
      rest: (work) => this.enqueue(work),
      failed: (error) => this.giveUpStream(error),
    });
  }

  /** There will be a replica, or there is one, and it begins where the connection is. */
  want(): void {
    this.ahead.want();
  }

  /** It goes on from a position of its own: what came until now was for others, and they are told all of it. */
  wantElsewhere(): void {
    this.ahead.wantElsewhere();
  }

  push(work: Work): void {
    if (this.closed) return abandon(work, this.closed);
    if (this.isOpen) this.enqueue(work);
    else this.ahead.push(work);
  }

  /** Before anything else that waits, but not before who reads what is there already. */
  pushFirst(work: Work): void {
    if (this.closed) return;
    this.queue.unshift(work);
    if (!this.isWorking) void this.work(nextTask());
  }

  /** Nothing more is done on the replica, save what is being done right now: it may be another client's soon. */
  close(error: WalcastError): void {
    this.closed = error;
    for (const work of [...this.queue.splice(0), ...this.ahead.close()]) abandon(work, error);
  }

  private enqueue(work: Work): void {
    // One position is as good as many while nobody looks.
    if (!this.isOpen && isMerePosition(work) && isMerePosition(this.queue.at(-1))) this.queue.pop();
    this.queue.push(work);
    if (!this.isWorking) void this.work();
  }

  private async work(begin?: Promise<void>): Promise<void> {
    this.isWorking = true;
    try {
      const replica = await this.replica;
      await begin;
      this.ahead.finish();
      this.isOpen = true;
      while (this.queue.length > 0) {
        await this.turn(replica).catch((error: unknown) => this.giveUpStream(error));
        if (this.taskBytes >= TASK_BYTES_MAX) await this.nextTask();
      }
    } catch {
      // The replica did not open. Whoever waits for rows is told by their own promises.
      for (const work of this.queue.splice(0)) if (work.kind === "remove" || work.kind === "empty") work.done();
    } finally {
      this.isWorking = false;
    }
  }

  private async nextTask(): Promise<void> {
    this.taskBytes = 0;
    await nextTask();
  }

  /** What else came on this connection is void; what the application asked for is not. */
  private giveUpStream(error: unknown): void {
    const numbers = this.queue.flatMap((work) => (work.kind === "transaction" ? spilledIn(work) : []));
    this.queue = this.queue.filter(outlastsStream);
    if (numbers.length > 0) this.queue.push({ kind: "unspill", numbers });
    this.hooks.breach(asReplicaFailure(error));
  }

  private async turn(replica: Replica): Promise<void> {
    await replica.database.instance.hasRoom();
    const turn = new Turn(replica, this.hooks, this.joined);
    await replica.database.exclusive(async () => {
      const work = this.queue.shift();
      if (!work) return;
      if (work.kind === "transaction") turn.apply(this.takeBatch(work));
      else if (work.kind === "copy") turn.copy(work.lane, this.takeCopies(work.lane, work.lines));
      else turn.work(work);
      if (this.queue.length === 0) replica.tidy();
      await replica.database.instance.committed();
    });
    this.queue.unshift(...turn.next);
    for (const call of turn.tell) call();
  }

  /** Small frames that follow one another are loaded together: each COPY has a price of its own. */
  private takeCopies(lane: Lane, first: Uint8Array): Uint8Array[] {
    const lines = [first];
    let bytes = first.length;
    for (
      let next = this.queue[0];
      next?.kind === "copy" && next.lane === lane && bytes + next.lines.length <= BATCH_BYTES_MAX;
      next = this.queue[0]
    ) {
      bytes += next.lines.length;
      lines.push(next.lines);
      this.queue.shift();
    }
    this.taskBytes += bytes;
    return lines;
  }

  /** Whole transactions up to the first that joins something, or to the bound. */
  private takeBatch(first: Transaction): Transaction[] {
    const batch = [first];
    let bytes = first.bytes;
    while (batch.at(-1)!.joins.length === 0 && spilledIn(batch.at(-1)!).length === 0) {
      const next = this.queue[0];
      if (next?.kind !== "transaction" || bytes + next.bytes > BATCH_BYTES_MAX) break;
      bytes += next.bytes;
      batch.push(next);
      this.queue.shift();
    }
    this.taskBytes += bytes;
    return batch;
  }
}

function isMerePosition(work: Work | undefined): boolean {
  return work?.kind === "transaction" && work.segments.length === 0 && work.joins.length === 0;
}
