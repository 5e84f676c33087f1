/**
 * Sends what must be refused, one thing after the other, on a connection of its own each, at a given rate, and waits for no answer: it has
 * attacked before, so that nothing of what a client may have at once is left. Says "ready" when the first was refused; told that it is
 * enough, says how many were. One that is served instead ends the bench.
 */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { constants, setPriority } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

const [port = "", perSecond = ""] = process.argv.slice(2);
const table = "bench_orders";

const subscribe = (where: string, params: readonly unknown[] = []): unknown => ({
  kind: "subscribe",
  id: 1,
  shape: { table, where, params },
});

/** Long enough that another answer would have come, were there one. */
const silenceMs = 300;

const long = `id in (${Array.from({ length: 2_000 }, (_, i) => i).join()})`;

/** Only who has read it all knows that it must be refused. */
const costly = `${long} or nothing = 1`;

/** Not the same twice, so that it has to be read each time. */
const everNew = (): unknown => {
  const parts = Array.from({ length: 24 }, () => `id = ${Math.floor(Math.random() * 1e9)}`);
  return subscribe(`${parts.join(" or ")} or nothing = 1`);
};

/** As the first message, or after a greeting. */
const messages: readonly { readonly greets: boolean; readonly message: unknown }[] = [
  { greets: false, message: "no object" },
  { greets: false, message: { kind: "hello", token: nested(2_000) } },
  { greets: false, message: subscribe("true") },
  { greets: true, message: nested(2_000) },
  { greets: true, message: subscribe("pg_sleep(10) is null") },
  { greets: true, message: subscribe(`${long} or (select true)`) },
  { greets: true, message: subscribe(costly) },
  { greets: true, message: everNew },
  { greets: true, message: subscribe(`${"(".repeat(3_000)}true${")".repeat(3_000)}`) },
  { greets: true, message: subscribe(`${"not ".repeat(2_000)}id = 1`) },
  { greets: true, message: subscribe("status ~ '(a+)+$'") },
  { greets: true, message: subscribe("id = $1", [{}, [], null]) },
  { greets: true, message: subscribe("id = 1; drop table bench_orders") },
  { greets: true, message: { kind: "subscribe", id: 1, shape: { table: "pg_catalog.pg_authid" } } },
  { greets: true, message: { kind: "subscribe", id: -1, shape: { table } } },
];

yieldCores();
let refused = 0;
const enough = new AbortController();
const attacking = attack();
whenDismissed();
await told();
enough.abort();
await attacking;
say(refused);

/** An attacker has a machine of its own. This one has what nobody else has a use for. https://man7.org/linux/man-pages/man7/sched.7.html */
function yieldCores(): void {
  const args = ["--idle", "--all-tasks", "--pid", "0", String(process.pid)];
  if (spawnSync("chrt", args).status !== 0) setPriority(constants.priority.PRIORITY_LOW);
}

async function attack(): Promise<void> {
  await useUp();
  for (let i = 0; !enough.signal.aborted; i++) {
    half();
    void attempt(messages[i % messages.length]!);
    await delay(1_000 / Number(perSecond));
  }
}

/** Of the time for reading long conditions, what may be taken at once. */
async function useUp(): Promise<void> {
  const socket = await entered(true);
  if (!socket) return;
  let last = performance.now();
  socket.onText = () => (last = performance.now());
  socket.socket.once("close", () => (last = -Infinity));
  for (let id = 1; id <= 150; id++) socket.send({ kind: "subscribe", id, shape: { table, where: costly } });
  while (performance.now() - last < silenceMs) await delay(silenceMs / 10);
  socket.socket.destroy();
}

async function attempt({ greets, message: given }: (typeof messages)[number]): Promise<void> {
  const socket = await entered(greets);
  if (socket) await refusal(socket, given === everNew ? everNew() : given);
  refused++;
  if (refused === 1) say("ready");
}

/** Undefined where that was refused: the address has opened too many. */
async function entered(greets: boolean): Promise<RawSocket | undefined> {
  const socket = await RawSocket.open(Number(port)).catch((error: unknown) => {
    if (!String(error).includes(" 429 ")) throw error;
    return undefined;
  });
  if (!socket || !greets) return socket;
  socket.send({ kind: "hello" });
  await socket.text(({ kind }) => kind === "welcome");
  return socket;
}

/** An error, or the connection's end. */
async function refusal(socket: RawSocket, message: unknown): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.onText = (text) => (text.includes('"kind":"error"') ? resolve() : undefined);
  socket.onBinary = (_position, kind) => {
    // Who waits long is told from time to time where everybody is.
    if (kind !== frameKinds.position) reject(new Error(`served instead of refused: ${JSON.stringify(message)}`));
  };
  socket.socket.once("close", () => resolve());
  socket.send(message);
  await promise;
  socket.socket.destroy();
}

/** Half a request, and gone. */
function half(): void {
  const socket = connect(Number(port), "127.0.0.1");
  socket.on("error", () => undefined);
  void once(socket, "connect").then(() => socket.end("GET /v1/sync HTTP/1.1\r\nHost: x\r\nX-Half: "));
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}
