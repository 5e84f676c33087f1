import { once } from "node:events";
import { type AddressInfo, connect as netConnect, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";

interface Network {
  readonly url: string;
  cut(): void;
  cutAfter(bytes: number): void;
  /** Nobody gets through while this is done. */
  away(work: () => Promise<unknown>): Promise<void>;
  end(): void;
}

/** A network that breaks when it is told to. */
export async function cuttable(t: TestContext, to: string): Promise<Network> {
  const sockets = new Set<Socket>();
  let left = Infinity;
  let isAway = false;
  const cut = (): void => {
    left = Infinity;
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((near) => {
    if (isAway) return void near.destroy();
    const far = netConnect(Number(new URL(to).port), "127.0.0.1");
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on("error", () => {}).on("close", () => sockets.delete(one) && other.destroy());
      one.pipe(other);
    }
    far.on("data", ({ length }: Buffer) => (left -= length) < 0 && cut());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const end = (): void => {
    cut();
    server.close();
  };
  t.after(end);
  const { port } = server.address() as AddressInfo;
  return {
    url: `ws://127.0.0.1:${port}`,
    cut,
    cutAfter: (bytes) => void (left = bytes),
    async away(work) {
      isAway = true;
      cut();
      await work();
      isAway = false;
    },
    end,
  };
}
