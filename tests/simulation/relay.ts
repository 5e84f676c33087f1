/**
 * Stands between a client and the engine and understands what it passes on, so that it can lie: drop a frame of changes,
 * swap what two of them bring, or rewrite a value. A lie that is `covered` has its numbers and checksums put right, so
 * that no check of the client can find it; one that is not is as any fault of a network or a program would be.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { decodeFrame, type Frame, type SectionIn, type ServerMessage, subprotocol } from "../../engine/protocol.ts";
import { encodeFrame } from "../support/payload.ts";

export type Lie = "drop" | "swap" | "rewrite";

export class Relay {
  private readonly server: WebSocketServer;
  private readonly engine: string;
  private readonly covered: boolean;
  private armed: Lie | undefined;
  private told = Promise.withResolvers<void>();

  static async open(engine: string, covered: boolean): Promise<Relay> {
    const relay = new Relay(engine, covered);
    await once(relay.server, "listening");
    return relay;
  }

  private constructor(engine: string, covered: boolean) {
    this.engine = engine;
    this.covered = covered;
    this.server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false });
    this.server.on("connection", (client) => this.pair(client));
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** About the next frame that brings changes. Resolves when it is held back or passed on. */
  lie(how: Lie): Promise<void> {
    this.armed = how;
    this.told = Promise.withResolvers();
    return this.told.promise;
  }

  async close(): Promise<void> {
    for (const client of this.server.clients) client.terminate();
    this.server.close();
    await once(this.server, "close");
  }

  private pair(client: WebSocket): void {
    const engine = new WebSocket(`${this.engine.replace("http", "ws")}/v1/sync`, subprotocol, {
      perMessageDeflate: false,
    });
    const early: Buffer[] = [];
    const out = new Outgoing(client, this.covered);
    client.on("message", (data: Buffer) =>
      engine.readyState === WebSocket.OPEN ? engine.send(String(data)) : early.push(data),
    );
    engine.on("open", () => early.splice(0).forEach((data) => engine.send(String(data))));
    engine.on("message", (data: Buffer, isBinary) => this.pass(out, data, isBinary));
    engine.on("close", () => client.terminate());
    client.on("close", () => engine.terminate());
    for (const socket of [client, engine]) socket.on("error", () => {});
  }

  private pass(out: Outgoing, data: Buffer, isBinary: boolean): void {
    if (!isBinary) return out.text(data);
    const frame = out.read(data);
    const bringsChanges = frame.kind === "commits" && frame.sections.length > 0;
    if (out.held && bringsChanges) return out.swap(data, frame);
    if (this.armed === undefined || !bringsChanges) return out.binary(data, frame);
    this.deceive(this.armed, out, data, frame);
    this.armed = undefined;
    this.told.resolve();
  }

  private deceive(lie: Lie, out: Outgoing, data: Buffer, frame: Frame): void {
    if (lie === "swap") out.held = { data, frame };
    if (lie === "rewrite") out.binary(...rewritten(data, frame));
  }
}

/** What goes to the client, with the numbers and checksums that it expects where lies are covered. */
class Outgoing {
  held: { readonly data: Buffer; readonly frame: Frame } | undefined;
  private readonly client: WebSocket;
  private readonly covered: boolean;
  private readonly came = { number: 0, checksum: 0 };
  private readonly left = { number: 0, checksum: 0 };

  constructor(client: WebSocket, covered: boolean) {
    this.client = client;
    this.covered = covered;
  }

  read(data: Buffer): Frame {
    const frame = decodeFrame(data, { number: ++this.came.number, previousChecksum: this.came.checksum });
    this.came.checksum = frame.checksum;
    return frame;
  }

  text(data: Buffer): void {
    this.came.number++;
    if (!this.covered) return this.client.send(String(data));
    const message = JSON.parse(String(data)) as ServerMessage;
    this.client.send(JSON.stringify({ ...message, frame: ++this.left.number }));
  }

  binary(data: Buffer, frame: Frame): void {
    if (!this.covered) return this.client.send(data);
    const sections = frame.sections.map(({ subscription, payload }) => ({ subscription, bytes: payload }));
    const { bytes, checksum } = encodeFrame({ ...frame, sections }, ++this.left.number, this.left.checksum);
    this.left.checksum = checksum;
    this.client.send(bytes);
  }

  /** This frame's changes at the held one's position, and the other way round. */
  swap(data: Buffer, frame: Frame): void {
    const { held } = this;
    this.held = undefined;
    this.binary(data, { ...held!.frame, sections: frame.sections });
    this.binary(held!.data, { ...frame, sections: held!.frame.sections });
  }
}

/** The last digit of the last value is another one. */
function rewritten(data: Buffer, frame: Frame): [Buffer, Frame] {
  const other = Buffer.from(data);
  const last = other.length - 1;
  other[last] = other[last]! ^ 1;
  const sections = frame.sections.map((section, i): SectionIn => {
    if (i < frame.sections.length - 1) return section;
    return { ...section, payload: other.subarray(other.length - section.payload.length) };
  });
  return [other, { ...frame, sections }];
}
