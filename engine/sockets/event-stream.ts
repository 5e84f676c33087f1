/**
 * One response that is a stream of Server-Sent Events. What waits for a slow reader is bounded: who sends asks first whether
 * there is room, and does without where there is none. https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
import type { HttpResponse } from "./uws.ts";

export interface EventStreamOptions {
  readonly headers: Iterable<readonly [string, string]>;
  /** A comment as often as this, so that neither side takes silence for a dead connection, and nobody in between does. */
  readonly heartbeatMs: number;
  /** Without a byte taken in so long, the reader is gone, whatever the operating system believes. */
  readonly idleMs: number;
  /** How much may wait for the reader. */
  readonly budgetBytes: number;
  /** It is over, whoever ended it. */
  readonly onOver: () => void;
}

/** Buffered by no proxy (nginx asks for it by name), transformed by none, and kept by none. */
const streamHeaders: readonly (readonly [string, string])[] = [
  ["Content-Type", "text/event-stream; charset=utf-8"],
  ["Cache-Control", "no-cache, no-transform"],
  ["X-Accel-Buffering", "no"],
];

/** A socket's own buffer takes what does not fit into the kernel's, so no more is written at a time. */
const pieceBytes = 64 * 1024;

/** Those who lost one engine together do not come back together. */
const retryMs = 1_000;

const comment = Buffer.from(":\n\n");

export class EventStream {
  private readonly res: HttpResponse;
  private readonly options: EventStreamOptions;
  private readonly timer: NodeJS.Timeout;
  private queue: { readonly bytes: Uint8Array; readonly counts: boolean }[] = [];
  private waitingBytes = 0;
  private isFull = false;
  private takenAt = 0;
  private draining: (() => void)[] = [];
  private over = false;

  /** The response must have nothing written to it yet; `aborted` is to be called from its abort handler. */
  constructor(res: HttpResponse, options: EventStreamOptions) {
    this.res = res;
    this.options = options;
    res.onWritable(() => this.writable());
    res.cork(() => {
      res.writeStatus("200 OK");
      for (const [name, value] of [...streamHeaders, ...options.headers]) res.writeHeader(name, value);
      this.isFull = !res.write(`retry: ${Math.round(retryMs * (1 + Math.random()))}\n\n`);
    });
    this.timer = setInterval(() => this.beat(), options.heartbeatMs);
  }

  get isOver(): boolean {
    return this.over;
  }

  /** What waits for the reader, in bytes. */
  get waiting(): number {
    return this.waitingBytes;
  }

  /** Whether events of this size keep to the budget. */
  takes(bytes: number): boolean {
    return this.waitingBytes === 0 || this.waitingBytes + bytes <= this.options.budgetBytes;
  }

  /** Whole events. What everybody is given alike, and is in memory once, does not count for the budget. */
  send(events: Uint8Array, { counts = true } = {}): void {
    if (this.over) return;
    for (let at = 0; at < events.length; at += pieceBytes)
      this.queue.push({ bytes: events.subarray(at, at + pieceBytes), counts });
    if (counts) this.waitingBytes += events.length;
    this.pump();
  }

  /** Resolves when nothing waits, or it is over. */
  async drained(): Promise<void> {
    while (!this.over && (this.isFull || this.queue.length > 0))
      await new Promise<void>((resolve) => this.draining.push(resolve));
  }

  /** Ends it, after a last event; where others wait before that, it is cut off, and the reader comes back. */
  end(last?: Uint8Array): void {
    if (this.over) return;
    const isWhole = !this.isFull && this.queue.length === 0;
    this.finish();
    if (isWhole)
      this.res.cork(() => {
        if (last) this.res.write(last);
        this.res.end();
      });
    else this.res.close();
  }

  /** The reader is gone. */
  aborted(): void {
    if (!this.over) this.finish();
  }

  private finish(): void {
    this.over = true;
    clearInterval(this.timer);
    this.queue = [];
    this.waitingBytes = 0;
    this.wake();
    this.options.onOver();
  }

  private pump(): void {
    if (this.over || this.isFull || this.queue.length === 0) return;
    this.res.cork(() => {
      while (!this.isFull && this.queue.length > 0) this.writeOne();
    });
    if (!this.isFull) this.wake();
  }

  private writeOne(): void {
    const { bytes, counts } = this.queue.shift()!;
    if (counts) this.waitingBytes -= bytes.length;
    this.isFull = !this.res.write(bytes);
    if (this.isFull) this.takenAt = performance.now();
  }

  /** With a handler for this, the library writes what is in its buffer only when something is written behind it. */
  private writable(): boolean {
    if (this.over) return true;
    this.takenAt = performance.now();
    this.res.cork(() => {
      if (this.queue.length > 0) this.writeOne();
      else this.isFull = !this.res.write(comment);
    });
    this.pump();
    if (!this.isFull && this.queue.length === 0) this.wake();
    return true;
  }

  private beat(): void {
    if (this.isFull) {
      if (performance.now() - this.takenAt > this.options.idleMs) this.end();
    } else if (this.queue.length === 0) this.send(comment);
  }

  private wake(): void {
    const { draining } = this;
    this.draining = [];
    for (const resolve of draining) resolve();
  }
}

/** One event. Data of several lines comes in as many fields, and is put together again by the reader. */
export function encodeEvent({ event, id, data }: { event?: string; id?: string; data: string }): string {
  const head = `${event === undefined ? "" : `event: ${oneLine(event)}\n`}${id === undefined ? "" : `id: ${oneLine(id)}\n`}`;
  return `${head}${data
    .split(/\r\n|\r|\n/)
    .map((line) => `data: ${line}\n`)
    .join("")}\n`;
}

/** A name or an id ends with its line; NUL in an id makes the reader ignore it. */
function oneLine(text: string): string {
  return text.replace(/[\r\n\0]/g, " ");
}
