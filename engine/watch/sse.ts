/** Anything that can be iterated over, as a response of Server-Sent Events for whichever server sends it. */
import { WalcastError } from "../errors.ts";
import { encodeEvent } from "../sockets/event-stream.ts";

export interface SseOptions {
  /** Comments, so that nobody on the way takes silence for a dead connection. */
  readonly heartbeat?:
    | {
        /** Default 15,000. */
        readonly intervalMs?: number | undefined;
        /** Until the first. Default: `intervalMs`. */
        readonly initialDelayMs?: number | undefined;
        /** Default: an empty one. */
        readonly comment?: string | undefined;
      }
    | undefined;
  /** Ends the response, and the iteration. */
  readonly signal?: AbortSignal | undefined;
}

/** One event, said by hand. */
export interface SseEvent {
  readonly event?: string;
  readonly id?: string;
  /** Text as it is; anything else as JSON. */
  readonly data: unknown;
}

/**
 * Each value is an event: text as it is (HTML, say), an object with `data` as the event that it describes, anything else as JSON, with its
 * `position` as the id where it has one, as the states of `engine.watch` do. The next value is asked for when the reader has taken the
 * last one, so a slow reader gets fewer states, and the newest. Ends with the iteration; a reader that leaves ends the iteration.
 */
export function sse(values: AsyncIterable<unknown>, { heartbeat = {}, signal }: SseOptions = {}): Response {
  const { intervalMs = 15_000, initialDelayMs = intervalMs, comment = "" } = heartbeat;
  const iterator = values[Symbol.asyncIterator]();
  let timer: NodeJS.Timeout | undefined;
  const leave = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", leave);
    void iterator.return?.();
  };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      signal?.addEventListener("abort", leave, { once: true });
      if (signal?.aborted) leave();
      const beat = (): void => {
        // Whoever has not taken what there is needs no comment.
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(bytesOf(`:${oneLine(comment)}\n\n`));
        timer = setTimeout(beat, intervalMs);
      };
      timer = setTimeout(beat, initialDelayMs);
    },
    async pull(controller) {
      try {
        const { done, value } = signal?.aborted ? { done: true, value: undefined } : await iterator.next();
        if (!done) return controller.enqueue(bytesOf(encodeEvent(eventOf(value))));
      } catch (error) {
        controller.enqueue(bytesOf(encodeEvent({ event: "closed", data: JSON.stringify(told(error)) })));
      }
      leave();
      controller.close();
    },
    cancel: leave,
  });
  return new Response(body, {
    headers: {
      "Content-Type": "text/event-stream; charset=utf-8",
      "Cache-Control": "no-cache, no-transform",
      "X-Accel-Buffering": "no",
    },
  });
}

function eventOf(value: unknown): { event?: string; id?: string; data: string } {
  if (typeof value === "string") return { data: value };
  if (isEvent(value)) {
    const { event, id, data } = value;
    return { ...(event === undefined ? {} : { event }), ...(id === undefined ? {} : { id }), data: textOf(data) };
  }
  const { position } = (value ?? {}) as { position?: unknown };
  return { ...(typeof position === "string" ? { id: position } : {}), data: textOf(value) };
}

function isEvent(value: unknown): value is SseEvent {
  return typeof value === "object" && value !== null && !Array.isArray(value) && "data" in value;
}

function textOf(data: unknown): string {
  return typeof data === "string" ? data : (JSON.stringify(data) ?? "null");
}

/** What others threw is for a log, and for no page. */
function told(error: unknown): unknown {
  return error instanceof WalcastError ? error : { code: "query_failed", message: "the stream failed" };
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]/g, " ");
}
