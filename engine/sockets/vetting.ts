/**
 * Long conditions are read in a thread of their own first, which takes milliseconds in which nobody else would be served; not
 * those that their tokens alone refuse. What the thread refuses costs nobody else anything; of what it lets pass it has done
 * nearly all. It starts when it is first needed, and anew should it end: what it was at is refused then, as it would end
 * it again.
 */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Logger } from "pino";
import type { Table } from "../changes/table.ts";
import { type ErrorJson, type ShapeRequest, WalcastError } from "../protocol.ts";
import { FairQueue } from "./fair-queue.ts";
import { checkLimits } from "../shapes/where.ts";

export interface Question {
  readonly where: string;
  readonly params: readonly unknown[];
  readonly table: Table;
  /** Names of columns; undefined: all. */
  readonly readable: readonly string[] | undefined;
}

export type Answer =
  | { readonly kind: "passed"; readonly vetted: string }
  | { readonly kind: "refused"; readonly error: ErrorJson }
  | { readonly kind: "failed"; readonly message: string };

interface Job {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: WalcastError) => void;
}

const bounds = {
  /** At 64 KiB each it takes a minute to read so many, and nobody waits longer than that. */
  waitingMax: 1_000,
  /** Many times what the longest takes that can pass, also on a machine that is busy. */
  readMsMax: 30_000,
  /** Many times what the largest tree takes. */
  heapMiB: 256,
};

export class Vetting {
  private readonly log: Logger;
  private readonly bounds: typeof bounds;
  private readonly waiting: FairQueue<object, Job>;
  private thread: Worker | undefined;
  private current: Job | undefined;
  private late: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(log: Logger, given: Partial<typeof bounds> = {}) {
    this.log = log;
    this.bounds = { ...bounds, ...given };
    this.waiting = new FairQueue(this.bounds.waitingMax);
  }

  /** Throws as `resolveShape` does where the condition is refused, and gives what makes that take little time. Takes turns by `asker`. */
  async vet(
    asker: object,
    { where = "", params = [] }: ShapeRequest,
    table: Table,
    readable: readonly string[] | undefined,
  ): Promise<string> {
    checkLimits(where);
    const answer = await this.ask(asker, { where, params, table, readable });
    if (answer.kind === "failed") throw new Error(answer.message);
    if (answer.kind === "refused") throw new WalcastError(answer.error.code, answer.error.message, answer.error);
    return answer.vetted;
  }

  /** It is not there any more. */
  forget(asker: object): void {
    for (const job of this.waiting.remove(asker)) job.reject(goneAway());
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const job of this.waiting.removeAll()) job.reject(goneAway());
    await this.thread?.terminate();
  }

  private ask(asker: object, question: Question): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    if (this.closed) reject(goneAway());
    else this.waiting.add(asker, { question, resolve, reject })?.reject(tooManyWait(this.bounds));
    this.next();
    return promise;
  }

  private next(): void {
    if (this.current || this.closed) return;
    this.current = this.waiting.next();
    if (!this.current) return;
    const thread = (this.thread ??= this.start());
    this.late = setTimeout(() => void thread.terminate(), this.bounds.readMsMax);
    thread.postMessage(this.current.question);
  }

  private start(): Worker {
    // What was built has .js files.
    const url = new URL(`vetting-thread${extname(import.meta.filename)}`, import.meta.url);
    const thread = new Worker(url, { execArgv: [], resourceLimits: { maxOldGenerationSizeMb: this.bounds.heapMiB } });
    thread.on("message", (answer: Answer) => this.done((job) => job.resolve(answer)));
    thread.on("error", (err) => this.log.warn({ err }, "the thread that reads long conditions failed"));
    thread.on("exit", () => {
      this.thread = undefined;
      this.done((job) => job.reject(this.closed ? goneAway() : tooMuch(this.bounds)));
    });
    // It keeps no process alive.
    thread.unref();
    return thread;
  }

  private done(end: (job: Job) => void): void {
    const { current } = this;
    clearTimeout(this.late);
    this.current = undefined;
    if (current) end(current);
    this.next();
  }
}

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
