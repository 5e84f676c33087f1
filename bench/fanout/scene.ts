/**
 * An engine and a floor, each in a process of its own, on tables of their own in one Postgres, so that both are warm and neither is
 * sent what is the other's; and those who connect to them.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { WebSocket } from "ws";
import { decodeCommits, frameHeaderBytes, frameKinds, subprotocol } from "../../engine/protocol.ts";
import type { Conditions } from "../bench.ts";
import type { BenchPostgres } from "../postgres.ts";
import { Part } from "../processes.ts";
import type { Arrival, Order } from "./clients.ts";
import type { Replay } from "./floor.ts";
import { createOrders, firstId, Writer } from "./orders.ts";

const tables = { ours: "bench_ours", floor: "bench_floor" } as const;

export class Scene {
  readonly writer: Writer;
  readonly conditions: Conditions;
  private readonly postgres: BenchPostgres;
  private readonly dataDir: string;
  private readonly floor: string;
  private readonly servers: Partial<Record<keyof typeof tables, { readonly part: Part; readonly port: number }>> = {};

  /** What the engine sends of a transaction of so many rows. */
  private readonly frames = new Map<number, Buffer>();

  /** `floor`: whose place it may be that a peer takes. */
  constructor(postgres: BenchPostgres, dataDir: string, floor = "floor.ts") {
    this.floor = floor;
    this.postgres = postgres;
    this.dataDir = dataDir;
    this.writer = new Writer(postgres.url);
    this.conditions = { postgres: postgres.version };
  }

  /** `rows`: how many a table has; `changed`: how many a transaction changes. */
  async open(rows: number, changed: readonly number[]): Promise<void> {
    const { url, query } = this.postgres;
    for (const table of Object.values(tables)) await query(createOrders(table, rows));
    await query(`create publication bench for table ${tables.floor}`);
    await query("select pg_create_logical_replication_slot('bench', 'pgoutput')");
    await this.writer.open();
    this.servers.ours = await served(part("../engine.ts", url, tables.ours, this.dataDir));
    this.servers.floor = await served(part(this.floor, url, "bench", "bench"));
    for (const count of changed) this.frames.set(count, await this.recorded(count));
  }

  async close(): Promise<void> {
    for (const { part } of Object.values(this.servers)) await part.stop();
    await this.writer.close();
  }

  async contender(who: keyof typeof tables, sockets: number, audience: Replay["audience"]): Promise<Contender> {
    const { part: server, port } = this.servers[who]!;
    const clients = part("clients.ts", port, sockets, audience, ...(who === "ours" ? [tables.ours] : []));
    await clients.says();
    return new Contender(tables[who], server, clients, sockets);
  }

  /** From now on the floor sends these. */
  async replay(audience: Replay["audience"], rows: number): Promise<void> {
    const { part: floor } = this.servers.floor!;
    floor.tell({ audience, frame: this.frames.get(rows)! } satisfies Replay);
    await floor.says();
  }

  private async recorded(rows: number): Promise<Buffer> {
    const socket = new WebSocket(`ws://127.0.0.1:${this.servers.ours!.port}/v1/sync`, subprotocol, {
      perMessageDeflate: false,
    });
    await once(socket, "open");
    const next = (wanted: number): Promise<Buffer> =>
      new Promise((resolve) => {
        socket.on("message", (data: Buffer, isBinary) => {
          if (isBinary && data[0] === wanted) resolve(data);
        });
      });
    socket.send(JSON.stringify({ kind: "hello" }));
    socket.send(JSON.stringify({ kind: "subscribe", id: 1, shape: { table: tables.ours } }));
    await next(frameKinds.join);
    const frame = next(frameKinds.commits);
    await this.writer.commit(tables.ours, firstId, rows);
    const found = await frame;
    socket.close();
    await once(socket, "close");
    const commits = decodeCommits(found.subarray(frameHeaderBytes(1)));
    assert.deepEqual(
      commits.map(({ operations }) => operations.length),
      [rows],
      "one transaction of so many rows is one frame",
    );
    return found;
  }
}

/** Those who are connected to one of the two servers. */
export class Contender {
  readonly table: string;
  private readonly server: Part;
  private readonly clients: Part;
  private readonly sockets: number;
  private frames = 0;

  constructor(table: string, server: Part, clients: Part, sockets: number) {
    this.table = table;
    this.server = server;
    this.clients = clients;
    this.sockets = sockets;
  }

  /** When the next frame had arrived at every socket. */
  frameAtAll(): Promise<number> {
    this.frames += this.sockets;
    this.clients.tell({ kind: "frames", frames: this.frames } satisfies Order);
    return this.clients.says<number>();
  }

  arrivalsBeyond(positions: readonly bigint[]): Promise<Arrival[]> {
    this.clients.tell({ kind: "beyond", positions } satisfies Order);
    return this.clients.says<Arrival[]>();
  }

  /** What the server's threads have taken of the cores so far. https://docs.kernel.org/scheduler/sched-stats.html */
  async cpuMs(): Promise<number> {
    const tasks = `/proc/${this.server.pid}/task`;
    const ns = await Promise.all(
      (await readdir(tasks)).map(async (task) =>
        Number((await readFile(`${tasks}/${task}/schedstat`, "utf8")).split(" ")[0]),
      ),
    );
    return ns.reduce((sum, one) => sum + one, 0) / 1e6;
  }

  leave(): Promise<void> {
    return this.clients.stop();
  }
}

async function served(part: Part): Promise<{ part: Part; port: number }> {
  return { part, port: await part.says<number>() };
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}
