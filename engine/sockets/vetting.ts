/**
 * Long conditions are read in a thread of their own first, which takes milliseconds in which nobody else would be served. What the
 * thread refuses costs nobody else anything; of what it lets pass it has done nearly all. It starts when it is first needed, and
 * anew should it end: what it was at is refused then, as it would end it again.
 *
 * The cores are everybody's, and the thread's work is felt by those who wait for a change: so a client has it for a share of each minute, and what
 * it asks for beyond that waits until it has some again. Short ones that are refused take of it, too, so that nobody has the engine itself read
 * ever new ones.
 */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Logger } from "pino";
import type { Table } from "../changes/table.ts";
import { type ErrorJson, type ShapeRequest, WalcastError } from "../protocol.ts";
import { wasParsed } from "../shapes/where.ts";
import { Rate } from "./bounds.ts";
import { FairQueue } from "./fair-queue.ts";
import { Shares } from "./shares.ts";

export interface Question {
  readonly where: string;
  readonly params: readonly unknown[];
  readonly table: Table;
  /** Names of columns; undefined: all. */
  readonly readable: readonly string[] | undefined;
}

/** `cpuMs`: what it took of the thread. */
export type Answer = { readonly cpuMs: number } & Verdict;

export type Verdict =
  | { readonly kind: "passed"; readonly vetted: string }
  | { readonly kind: "refused"; readonly error: ErrorJson }
  | { readonly kind: "failed"; readonly message: string };

interface Job extends Asking {
  readonly question: Question;
  readonly resolve: (verdict: Verdict) => void;
  readonly reject: (error: WalcastError) => void;
}

/** Whose share it takes, and who waits for it: a connection may ask for many, and a client may have many connections. */
export interface Asking {
  readonly client: unknown;
  readonly asker: object;
  /** It takes nothing of a share, and waits for none. */
  readonly isFree?: boolean;
}

export interface VettingServices {
  readonly log: Pick<Logger, "warn">;
  /** Of the thread, for each client. */
  readonly msPerMinute: number;
  readonly now?: () => number;
}

const bounds = {
  /** At 64 KiB each it takes a minute to read so many. */
  waitingMax: 1_000,
  /** Many times what the longest takes that can pass, also on a machine that is busy. */
  readMsMax: 30_000,
  /** Many times what the largest tree takes. */
  heapMiB: 256,
};

export class Vetting {
  /** Refusals after which it is looked whether the table that has the name is another one by now, which the stream would tell soon. */
  readonly doubts = new Rate(2, 100);
  private readonly log: VettingServices["log"];
  private readonly now: () => number;
  private readonly bounds: typeof bounds;
  private readonly waiting: FairQueue<unknown, Job>;
  private readonly shares: Shares<unknown>;
  /** What each waits for. */
  private readonly byAsker = new Map<object, Set<Job>>();
  private thread: Worker | undefined;
  private current: { readonly job: Job; readonly since: number } | undefined;
  private late: NodeJS.Timeout | undefined;
  private wake: NodeJS.Timeout | undefined;
  private closed = false;

  constructor({ log, msPerMinute, now }: VettingServices, given: Partial<typeof bounds> = {}) {
    this.log = log;
    this.now = now ?? (() => performance.now());
    this.bounds = { ...bounds, ...given };
    this.waiting = new FairQueue(this.bounds.waitingMax);
    this.shares = new Shares(msPerMinute);
  }

  /** Throws as `resolveShape` does where the condition is refused, and gives what makes that take little time. */
  async vet(
    asking: Asking,
    { where = "", params = [] }: ShapeRequest,
    table: Table,
    readable: readonly string[] | undefined,
  ): Promise<string> {
    const verdict = await this.ask(asking, { where, params, table, readable });
    if (verdict.kind === "failed") throw new Error(verdict.message);
    if (verdict.kind === "refused") throw new WalcastError(verdict.error.code, verdict.error.message, verdict.error);
    return verdict.vetted;
  }

  /**
   * A short condition is read here, by `read`, and what is refused takes of its client's share. Of a client that has none left, it is
   * read in the thread first, without waiting for a share: unless its text was read before, which takes next to no time.
   */
  async vetShort<Result>(
    { client, asker }: Asking,
    request: ShapeRequest,
    table: Table,
    readable: readonly string[] | undefined,
    read: () => Result,
  ): Promise<Result> {
    if (this.may(client)) return this.charged(client, read);
    if (request.where !== undefined && !wasParsed(request.where))
      await this.vet({ client: `short, of ${String(client)}`, asker, isFree: true }, request, table, readable);
    return read();
  }

  private charged<Result>(client: unknown, read: () => Result): Result {
    const before = this.now();
    try {
      return read();
    } catch (error) {
      const now = this.now();
      this.shares.charge(client, now - before, now);
      throw error;
    }
  }

  /** It is not there any more: what it waits for is over. */
  forget(asker: object): void {
    for (const job of this.byAsker.get(asker) ?? []) {
      this.waiting.remove(job.client, job);
      job.reject(goneAway());
    }
    this.byAsker.delete(asker);
  }

  /** How many wait, by what for: their turn, or that their client has a share again. */
  get waits(): ReadonlyMap<"turn" | "share", number> {
    const waits = { turn: 0, share: 0 };
    for (const [client, count] of this.waiting.sizes) waits[this.may(client) ? "turn" : "share"] += count;
    return new Map([
      ["turn", waits.turn],
      ["share", waits.share],
    ]);
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.wake);
    for (const job of this.waiting.removeAll()) job.reject(goneAway());
    this.byAsker.clear();
    await this.thread?.terminate();
  }

  private ask(asking: Asking, question: Question): Promise<Verdict> {
    const { promise, resolve, reject } = Promise.withResolvers<Verdict>();
    if (this.closed) reject(goneAway());
    else this.add({ ...asking, question, resolve, reject });
    this.next();
    return promise;
  }

  private add(job: Job): void {
    const own = this.byAsker.get(job.asker) ?? new Set();
    this.byAsker.set(job.asker, own.add(job));
    const dropped = this.waiting.add(job.client, job);
    if (!dropped) return;
    this.waitsNoMore(dropped);
    dropped.reject(tooManyWait(this.bounds));
  }

  private waitsNoMore(job: Job): void {
    const own = this.byAsker.get(job.asker)!;
    own.delete(job);
    if (own.size === 0) this.byAsker.delete(job.asker);
  }

  private may(client: unknown): boolean {
    return this.shares.nextAt(client) <= this.now();
  }

  private next(): void {
    if (this.current || this.closed) return;
    const job = this.waiting.next((client) => this.may(client));
    if (!job) return this.nextLater();
    this.waitsNoMore(job);
    this.current = { job, since: this.now() };
    const thread = (this.thread ??= this.start());
    this.late = setTimeout(() => void thread.terminate(), this.bounds.readMsMax);
    thread.postMessage(job.question);
  }

  /** Once the first of those who wait has a share again. */
  private nextLater(): void {
    clearTimeout(this.wake);
    const at = Math.min(...[...this.waiting.sizes.keys()].map((client) => this.shares.nextAt(client)));
    if (at === Infinity) return;
    this.wake = setTimeout(() => this.next(), Math.min(Math.ceil(at - this.now()), wakeMsMax));
    // Nor does it keep one alive.
    this.wake.unref();
  }

  private start(): Worker {
    // What was built has .js files.
    const url = new URL(`vetting-thread${extname(import.meta.filename)}`, import.meta.url);
    const thread = new Worker(url, { execArgv: [], resourceLimits: { maxOldGenerationSizeMb: this.bounds.heapMiB } });
    thread.on("message", ({ cpuMs, ...verdict }: Answer) => this.done(cpuMs, (job) => job.resolve(verdict)));
    thread.on("error", (err) => this.log.warn({ err }, "the thread that reads long conditions failed"));
    thread.on("exit", () => {
      this.thread = undefined;
      this.done(undefined, (job) => job.reject(this.closed ? goneAway() : tooMuch(this.bounds)));
    });
    // It keeps no process alive.
    thread.unref();
    return thread;
  }

  /** `cpuMs`: undefined where it did not come to its end. */
  private done(cpuMs: number | undefined, end: (job: Job) => void): void {
    const { current } = this;
    clearTimeout(this.late);
    this.current = undefined;
    if (current) {
      const now = this.now();
      if (!current.job.isFree) this.shares.charge(current.job.client, cpuMs ?? now - current.since, now);
      end(current.job);
    }
    this.next();
  }
}

// setTimeout counts to 2^31 ms.
const wakeMsMax = 60_000;

function goneAway(): WalcastError {
  return new WalcastError("going_away", "read a where: the connection is over");
}

function tooManyWait({ waitingMax }: typeof bounds): WalcastError {
  return new WalcastError("too_many", `read a where: expected at most ${waitingMax} long ones to wait at once`, {
    hint: "try again later, or ask for less in one condition",
  });
}

function tooMuch({ readMsMax, heapMiB }: typeof bounds): WalcastError {
  const found = `expected one that takes at most ${readMsMax / 1000} s and ${heapMiB} MiB to read`;
  return new WalcastError("where_unsupported", `read a where: ${found}`, { hint: "Write a shorter one." });
}
