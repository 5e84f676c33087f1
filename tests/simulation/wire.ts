/**
 * A TCP proxy in this process, for all that happens to bytes between two machines: connections reset, packets that go
 * nowhere, reads that come in slices. Its own address never changes; where it leads may.
 */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import type { Random } from "../splice/random.ts";

export interface Target {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

export class Wire {
  private readonly server: Server;
  private readonly target: () => Target | undefined;
  private readonly random: Random;
  private readonly pairs = new Set<Pair>();
  private slicing = false;
  private readonly watch: (() => (bytes: Buffer) => void) | undefined;
  private last: Target | undefined;
  /** Connections that were made through it, and those that led elsewhere than the one before. */
  connections = 0;
  moves = 0;

  /**
   * `target`: asked for each connection; without one it is refused. `watch`: asked for each connection, for who looks at what
   * the target sends.
   */
  static async open(
    target: () => Target | undefined,
    random: Random,
    watch?: () => (bytes: Buffer) => void,
  ): Promise<Wire> {
    const wire = new Wire(target, random, watch);
    wire.server.listen(0, "127.0.0.1");
    await once(wire.server, "listening");
    return wire;
  }

  private constructor(
    target: () => Target | undefined,
    random: Random,
    watch: (() => (bytes: Buffer) => void) | undefined,
  ) {
    this.target = target;
    this.random = random;
    this.watch = watch;
    this.server = createServer({ pauseOnConnect: true }, (socket) => this.accept(socket));
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Every connection ends with RST, in both directions. */
  reset(): void {
    for (const pair of [...this.pairs]) pair.reset();
  }

  /** Nothing passes any more, and nobody is told. Ends when the connections are reset. */
  blackhole(): void {
    for (const pair of this.pairs) pair.hold("both");
  }

  /** What the target sends is not taken: it meets a peer that does not read. */
  stall(): void {
    for (const pair of this.pairs) pair.hold("fromTarget");
  }

  flow(): void {
    for (const pair of this.pairs) pair.flow();
  }

  /** From now on bytes come in small parts, cut anywhere. */
  slice(on: boolean): void {
    this.slicing = on;
  }

  async close(): Promise<void> {
    this.reset();
    this.server.close();
    await once(this.server, "close");
  }

  private accept(socket: Socket): void {
    const target = this.target();
    if (!target) return void socket.resetAndDestroy();
    this.connections++;
    if (this.last && this.last.name !== target.name) this.moves++;
    this.last = target;
    const far = connect(target);
    const look = this.watch?.();
    if (look) far.on("data", look);
    const pair = new Pair(socket, far, (bytes) => (this.slicing ? this.cut(bytes) : [bytes]));
    this.pairs.add(pair);
    pair.gone.then(
      () => this.pairs.delete(pair),
      () => {},
    );
  }

  private cut(bytes: Buffer): Buffer[] {
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = this.random.chance(0.3) ? this.random.integer(1, 9) : this.random.integer(10, 3000);
      parts.push(bytes.subarray(at, at + length));
      at += length;
    }
    return parts;
  }
}

class Pair {
  readonly gone: Promise<void>;
  private readonly near: Socket;
  private readonly far: Socket;
  private readonly cut: (bytes: Buffer) => Buffer[];
  private readonly held = new Set<Socket>();

  constructor(near: Socket, far: Socket, cut: (bytes: Buffer) => Buffer[]) {
    this.near = near;
    this.far = far;
    this.cut = cut;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gone = promise;
    this.pass(near, far);
    this.pass(far, near);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.reset();
        resolve();
      });
    }
    near.resume();
  }

  reset(): void {
    for (const socket of [this.near, this.far]) if (!socket.destroyed) socket.resetAndDestroy();
  }

  hold(what: "both" | "fromTarget"): void {
    for (const socket of what === "both" ? [this.near, this.far] : [this.far]) {
      this.held.add(socket);
      socket.pause();
    }
  }

  flow(): void {
    this.held.clear();
    for (const socket of [this.near, this.far]) socket.resume();
  }

  private pass(from: Socket, to: Socket): void {
    from.on("data", (bytes: Buffer) => {
      let room = true;
      for (const part of this.cut(bytes)) room = to.write(part);
      if (room) return;
      from.pause();
      to.once("drain", () => this.held.has(from) || from.resume());
    });
    from.on("end", () => to.end());
  }
}
