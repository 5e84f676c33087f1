/**
 * The plain HTTP side. uWebSockets.js takes its request back when the handler returns and its response when the client
 * aborts: what is needed of the one is read at once, and nothing is written to the other afterwards.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Logger } from "pino";
import type { SlotVitals } from "../changes/vitals.ts";
import type { WalcastError } from "../errors.ts";
import type { HttpRequest, HttpResponse } from "./uws.ts";

export interface HttpServices {
  readonly health: () => Health;
  /** In Prometheus' text format. */
  readonly metrics: () => Promise<string>;
}

export interface Health {
  readonly status: "live" | "starting" | "reconnecting";
  /** Commit-end LSN of the last transaction. */
  readonly position: string;
  /** WAL that Postgres has written and we have not been sent, as of the last measurement, in bytes. */
  readonly lagBytes: number;
  /** How old the oldest of it is. */
  readonly lagSeconds: number;
  readonly slot?: SlotVitals;
  /** What needs a person soon, with the mend. */
  readonly warning?: string;
  /** Why it does not stream, with the mend. */
  readonly reason?: string;
}

export function serveHealth(res: HttpResponse, { health }: HttpServices): void {
  const state = health();
  answerJson(res, state.status === "live" ? "200 OK" : "503 Service Unavailable", state);
}

export async function serveMetrics(res: HttpResponse, { metrics }: HttpServices): Promise<void> {
  let aborted = false;
  res.onAborted(() => (aborted = true));
  const text = await metrics();
  if (!aborted) write(res, "200 OK", [["Content-Type", "text/plain; version=0.0.4; charset=utf-8"]], text);
}

export function answer(
  res: HttpResponse,
  status: string,
  error: WalcastError,
  headers: Iterable<readonly [string, string]> = [],
): void {
  answerJson(res, status, error, headers);
}

export function answerText(res: HttpResponse, status: string, text: string): void {
  write(res, status, [["Content-Type", "text/plain; charset=utf-8"]], text);
}

export function answerJson(
  res: HttpResponse,
  status: string,
  body: unknown,
  headers: Iterable<readonly [string, string]> = [],
): void {
  write(
    res,
    status,
    [["Content-Type", "application/json"], ["Cache-Control", "no-store"], ...headers],
    JSON.stringify(body),
  );
}

export function write(
  res: HttpResponse,
  status: string,
  headers: Iterable<readonly [string, string]>,
  body: string | Uint8Array,
): void {
  res.cork(() => {
    res.writeStatus(status);
    // The library writes the length itself.
    for (const [name, value] of headers) if (name !== "content-length") res.writeHeader(name, value);
    res.end(body);
  });
}

export type App = (request: Request) => Response | Promise<Response>;

/** Hands the request to the app as a web-standard Request. Bodies above the limit are refused with 413. */
export function serveApp(
  res: HttpResponse,
  req: HttpRequest,
  app: App,
  options: { bytesMax: number; log: Logger },
): void {
  const url = `http://${req.getHeader("host") || "localhost"}${req.getUrl()}${req.getQuery() ? `?${req.getQuery()}` : ""}`;
  const method = req.getMethod().toUpperCase();
  const headers = new Headers();
  req.forEach((name, value) => headers.append(name, value));
  const aborted = new AbortController();
  res.onAborted(() => aborted.abort());
  readBody(res, options.bytesMax, (body) => {
    if (!body) return write(res, "413 Content Too Large", [], "");
    const content = body.length > 0 && method !== "GET" && method !== "HEAD" ? { body } : {};
    const request = requestOf(url, { method, headers, signal: aborted.signal, ...content });
    if (!request) return answerText(res, "400 Bad Request", "the request has no valid address or method\n");
    void respond(res, aborted.signal, options.log, async () => app(request));
  });
}

/** Undefined where a host or a method is none that the web has. */
function requestOf(url: string, init: RequestInit): Request | undefined {
  try {
    return new Request(url, init);
  } catch {
    return undefined;
  }
}

export function readBody(
  res: HttpResponse,
  bytesMax: number,
  done: (body: Buffer<ArrayBuffer> | undefined) => void,
): void {
  let chunks: Buffer<ArrayBuffer>[] | undefined = [];
  let length = 0;
  res.onData((chunk, isLast) => {
    if (!chunks) return;
    length += chunk.byteLength;
    // The chunk is only lent.
    if (length <= bytesMax) chunks.push(Buffer.from(chunk.slice(0)));
    if (length > bytesMax || isLast) {
      const body = length > bytesMax ? undefined : Buffer.concat(chunks);
      chunks = undefined;
      done(body);
    }
  });
}

async function respond(
  res: HttpResponse,
  signal: AbortSignal,
  log: Logger,
  run: () => Promise<Response>,
): Promise<void> {
  try {
    const response = await run();
    if (signal.aborted) await response.body?.cancel();
    else await sendBody(res, signal, response);
  } catch (error) {
    log.error({ err: error }, "the app's handler failed");
    if (!signal.aborted)
      answerText(res, "500 Internal Server Error", "the request failed; the engine's log says why\n");
  }
}

/** What is there at once is sent with its length; what comes bit by bit, as it comes and as the reader takes it. */
async function sendBody(res: HttpResponse, signal: AbortSignal, response: Response): Promise<void> {
  const status = `${response.status} ${response.statusText}`.trim();
  const reader = (response.body ?? emptyBody()).getReader();
  const cancel = (): void => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel, { once: true });
  const turn = nextTurn("later" as const);
  const chunks: Uint8Array[] = [];
  for (;;) {
    const read = reader.read();
    const next = await Promise.race([read, turn]);
    if (signal.aborted) return;
    if (next === "later") return sendSlowly(res, signal, response, status, chunks, reader, read);
    if (next.done) return write(res, status, response.headers, Buffer.concat(chunks));
    chunks.push(next.value);
  }
}

type BodyReader = ReadableStreamDefaultReader<Uint8Array>;

async function sendSlowly(
  res: HttpResponse,
  signal: AbortSignal,
  { headers }: Response,
  status: string,
  chunks: readonly Uint8Array[],
  reader: BodyReader,
  pending: ReturnType<BodyReader["read"]>,
): Promise<void> {
  let writable = (): void => {};
  signal.addEventListener("abort", () => writable(), { once: true });
  res.onWritable(() => (writable(), true));
  res.cork(() => {
    res.writeStatus(status);
    for (const [name, value] of headers) if (name !== "content-length") res.writeHeader(name, value);
  });
  const send = async (chunk: Uint8Array): Promise<void> => {
    let isTaken = true;
    if (chunk.length > 0) res.cork(() => (isTaken = res.write(chunk)));
    if (!isTaken) await new Promise<void>((resolve) => (writable = resolve));
  };
  for (const chunk of chunks) if (!signal.aborted) await send(chunk);
  try {
    for (let next = await pending; !signal.aborted && !next.done; next = await reader.read()) await send(next.value);
    if (!signal.aborted) res.cork(() => res.end());
  } catch (error) {
    // Half of an answer was sent: the reader has to see that it is not whole.
    if (!signal.aborted) res.close();
    throw error;
  }
}

function emptyBody(): ReadableStream<Uint8Array> {
  return new Response("").body!;
}
