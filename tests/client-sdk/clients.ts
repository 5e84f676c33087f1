/** Clients of a scripted server, as tests want them. */
import { after, type TestContext } from "node:test";
import { PGlite } from "@electric-sql/pglite";
import {
  type Client,
  type ClientOptions,
  type ClientStatus,
  createClient,
  type Shape,
  type ShapeStatus,
} from "../../client-sdk/index.ts";
import { empty } from "../support/replica.ts";
import { inTime } from "../support/until.ts";
import { emptied } from "./emptied.ts";
import { Peer, type PeerConnection, table } from "./peer.ts";

// Starting a PGlite costs seconds; a client on a given one, emptied, begins from nothing just as well.
const files = await empty();
let shared: PGlite | undefined;
after(() => shared?.close());

export function sharedReplica(): PGlite {
  shared ??= new PGlite(files);
  return shared;
}

export const orders = table("orders", ["id integer", "status text"]);
export const all = "select id, status from orders order by id";

export async function start(
  t: TestContext,
  options: Partial<ClientOptions> = {},
): Promise<{ peer: Peer; client: Client }> {
  const peer = await Peer.start(t);
  const client = createClient({
    url: peer.url,
    replica: await emptied(sharedReplica()),
    backoff: { baseMs: 1, maxMs: 20 },
    ...options,
  });
  t.after(() => client.close());
  return { peer, client };
}

/** A client with the shape `orders` joined at position 16. */
export async function synced(
  t: TestContext,
  rows: readonly (readonly string[])[] = [
    ["1", "new"],
    ["2", "new"],
  ],
): Promise<{ peer: Peer; client: Client; shape: Shape; server: PeerConnection; id: number }> {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  const server = await peer.greeted();
  const id = await server.serve(orders, rows, 16n);
  await shape.ready;
  return { peer, client, shape, server, id };
}

export function changes<Value>(on: (listener: (value: Value) => void) => unknown): Value[] {
  const seen: Value[] = [];
  on((value) => seen.push(value));
  return seen;
}

export function reached(client: Client, status: ClientStatus): Promise<void> {
  const coming = new Promise<void>((resolve) => {
    if (client.status === status) return resolve();
    client.onStatus((now) => now === status && resolve());
  });
  return inTime(coming, () => `a client that is ${status}, found one that is ${client.status}`);
}

export function becomes(shape: Shape, status: ShapeStatus): Promise<void> {
  const coming = new Promise<void>((resolve) => {
    if (shape.status === status) return resolve();
    shape.on("status", (now) => now === status && resolve());
  });
  return inTime(coming, () => `a shape that is ${status}, found one that is ${shape.status}`);
}
