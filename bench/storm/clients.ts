/**
 * Clients with several shapes each, of a few distinct ones, which all lose their engine at once and come back at once. Told where
 * it is now, they come; says when the last of them was live. They resume where they left off, or begin anew. Of a floor they ask
 * for nothing but its bytes.
 */
import { frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

export type Call =
  | { readonly kind: "anew"; readonly port: number }
  /** `target`: the position at which they are live. */
  | { readonly kind: "resume"; readonly port: number; readonly target: string }
  | { readonly kind: "floor"; readonly port: number; readonly messages: number };

export interface Came {
  readonly ms: number;
  /** Of data messages, in all. */
  readonly bytes: number;
  readonly messages: number;
}

const [count = "", shapesEach = "", distinct = "", table = ""] = process.argv.slice(2);
/** The kernel turns away whom it cannot keep waiting, and they would try again a second later. */
const connectingMax = 200;

class Client {
  private readonly first: number;
  private raw: RawSocket | undefined;
  private epoch = "";
  private position = "";
  private readonly identities = new Map<number, string>();

  constructor(first: number) {
    this.first = first;
  }

  async connect(port: number): Promise<void> {
    this.leave();
    this.raw = await RawSocket.open(port);
  }

  leave(): void {
    this.raw?.socket.destroy();
  }

  get received(): RawSocket {
    return this.raw!;
  }

  come(call: Call): Promise<void> {
    if (call.kind === "floor") return this.take(call.messages);
    return call.kind === "anew" ? this.begin() : this.resume(BigInt(call.target));
  }

  private async begin(): Promise<void> {
    const raw = this.raw!;
    raw.send({ kind: "hello" });
    const { epoch } = await raw.text(({ kind }) => kind === "welcome");
    this.epoch = epoch as string;
    raw.onText = (text) => this.noteDescription(text);
    for (const id of this.ids) raw.send({ kind: "subscribe", id, shape: this.shape(id) });
    let joins = 0;
    await this.until(raw, (_position, kind) => kind === frameKinds.join && ++joins === this.ids.length);
  }

  private async resume(target: bigint): Promise<void> {
    const raw = this.raw!;
    raw.send({ kind: "hello", epoch: this.epoch, position: this.position });
    const { resumes } = await raw.text(({ kind }) => kind === "welcome");
    if (resumes !== true) throw new Error("expected that it goes on where it was");
    let resumed = 0;
    raw.onText = (text) => {
      if (!text.includes('"kind":"resumed"')) throw new Error(`expected that it goes on, was told ${text}`);
      resumed++;
    };
    for (const id of this.ids)
      raw.send({ kind: "subscribe", id, shape: this.shape(id), identity: this.identities.get(id) });
    raw.send({ kind: "resume" });
    await this.until(raw, (position) => position >= target);
    if (resumed !== this.ids.length) throw new Error(`${resumed} shapes resumed`);
  }

  private async take(messages: number): Promise<void> {
    const raw = this.raw!;
    const { position } = this;
    raw.send({});
    await this.until(raw, () => raw.messages === messages);
    this.position = position;
  }

  private noteDescription(text: string): void {
    const [, id, identity] = /"kind":"described","id":(\d+).*?"identity":"([^"]+)"/.exec(text) ?? [];
    if (!identity) throw new Error(`expected a description, was told ${text}`);
    this.identities.set(Number(id), identity);
  }

  private until(raw: RawSocket, enough: (position: bigint, kind: number) => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    raw.socket.once("close", () => reject(new Error("a socket was closed")));
    raw.onBinary = (position, kind) => {
      this.position = `${(position >> 32n).toString(16)}/${(position & 0xffffffffn).toString(16)}`;
      if (enough(position, kind)) resolve();
    };
    return promise;
  }

  private get ids(): readonly number[] {
    return Array.from({ length: Number(shapesEach) }, (_, i) => i + 1);
  }

  private shape(id: number): object {
    return { table, where: "region = $1", params: [(this.first + id) % Number(distinct)] };
  }
}

const clients = Array.from({ length: Number(count) }, (_, i) => new Client(i));
whenDismissed(() => clients.forEach((client) => client.leave()));
say("ready");
for (;;) {
  const call = await told<Call>();
  const startedNs = process.hrtime.bigint();
  await all(call);
  const ms = Number(process.hrtime.bigint() - startedNs) / 1e6;
  const sum = (of: (raw: RawSocket) => number): number =>
    clients.reduce((total, { received }) => total + of(received), 0);
  say({ ms, bytes: sum((raw) => raw.bytes), messages: sum((raw) => raw.messages) } satisfies Came);
}

async function all(call: Call): Promise<void> {
  const coming: Promise<void>[] = [];
  let next = 0;
  const connectInTurn = async (): Promise<void> => {
    while (next < clients.length) {
      const client = clients[next++]!;
      await client.connect(call.port);
      coming.push(client.come(call));
    }
  };
  await Promise.all(Array.from({ length: connectingMax }, connectInTurn));
  await Promise.all(coming);
}
