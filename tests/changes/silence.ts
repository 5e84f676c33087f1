/**
 * Stands between an engine and Postgres, and falls silent as a network does: connections stay open, what is sent is
 * never answered, and nobody is told.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Releasing } from "../support/postgres.ts";

export class Silence {
  /** How Postgres is reached through it. */
  readonly url: string;
  private readonly server: Server;
  private readonly pairs: (readonly [Socket, Socket])[] = [];
  private unheard: string | undefined;
  private readonly swallowed = Promise.withResolvers<void>();

  static async before(databaseUrl: string, t: Releasing): Promise<Silence> {
    const { port } = new URL(databaseUrl);
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = new URL(databaseUrl);
    url.port = String((server.address() as AddressInfo).port);
    const silence = new Silence(url.href, server, Number(port));
    t.after(async () => silence.close());
    return silence;
  }

  private constructor(url: string, server: Server, port: number) {
    this.url = url;
    this.server = server;
    server.on("connection", (near) => void this.accept(near, port));
  }

  /** From now on nothing passes, in either direction. */
  fall(): void {
    for (const socket of this.pairs.flat()) socket.pause();
  }

  /** Whoever connects and calls itself that is not heard; resolves when it has. */
  async swallow(applicationName: string): Promise<void> {
    this.unheard = applicationName;
    await this.swallowed.promise;
  }

  /** Resolves when nobody is connected any more: who waits for an answer would be for ever. */
  async isLeft(): Promise<void> {
    for (const [near] of this.pairs) {
      near.resume();
      if (!near.closed) await once(near, "close");
    }
  }

  private async accept(near: Socket, port: number): Promise<void> {
    const far = connect(port, "127.0.0.1");
    this.pairs.push([near, far]);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on("error", () => {});
      one.on("close", () => other.destroy());
    }
    const [hello] = (await once(near.resume(), "data")) as [Buffer];
    if (this.unheard !== undefined && hello.includes(`application_name\0${this.unheard}\0`))
      return this.swallowed.resolve();
    far.write(hello);
    near.pipe(far).pipe(near);
  }

  /** Postgres cannot be reached any more, and whoever tries is told. */
  close(): void {
    for (const socket of this.pairs.flat()) socket.destroy();
    this.server.close();
  }
}
