/** What stands between an engine and Postgres: a proxy is fine, a pooler that shares sessions is refused. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { testDatabase } from "../support/postgres.ts";
import { engines, goesOn, visit } from "./returning.ts";

const setup = "create table items (id int primary key); insert into items values (1)";

test("a proxy that has process ids of its own, one session a connection, is streamed through", async (t) => {
  const db = await testDatabase(t);
  await db.query(setup);
  const url = await between(t, db.url, (front, port) => {
    const back = connect(port, "127.0.0.1");
    front.pipe(back);
    back.on("data", (bytes) => front.write(withOtherProcessId(bytes)));
    endTogether(front, back);
  });
  const shop = await engines(url, db.name, t);
  const engine = await shop.start();
  const visited = await visit(engine);
  await db.query("insert into items values (2)");
  assert.deepEqual(await goesOn(engine, visited, 1), [["2"]]);
  await engine.close();
});

test("a pooler that gives two connections one session is refused, with what to do", async (t) => {
  const db = await testDatabase(t);
  const pooled = new Pooled();
  t.after(async () => pooled.end());
  const shop = await engines(await between(t, db.url, (front, port) => pooled.serve(front, port)), db.name, t);
  await assert.rejects(shop.start(), {
    code: "database_unsuitable",
    message: /a pooler is in between that shares its sessions/,
    hint: /direct connection/,
  });
});

/** One session for all: the first connection makes it, and the next are greeted with what the server said to the first. */
class Pooled {
  private back: Socket | undefined;
  private greeting = Buffer.alloc(0);
  private asking: Socket | undefined;

  serve(front: Socket, port: number): void {
    front.on("error", () => {});
    this.asking = front;
    if (this.back) front.once("data", () => this.greet(front));
    else this.open(port, front);
  }

  end(): void {
    this.back?.destroy();
  }

  private open(port: number, front: Socket): void {
    this.back = connect(port, "127.0.0.1");
    this.back.on("error", () => {});
    let greeted = false;
    this.back.on("data", (bytes) => {
      const sent = withOtherProcessId(bytes);
      if (!greeted) this.greeting = Buffer.concat([this.greeting, sent]);
      greeted ||= this.greeting.includes(authenticated);
      this.asking!.write(sent);
    });
    this.pass(front);
  }

  private greet(front: Socket): void {
    front.write(this.greeting.subarray(this.greeting.indexOf(authenticated)));
    this.pass(front);
  }

  private pass(front: Socket): void {
    front.on("data", (bytes) => {
      this.asking = front;
      if (bytes[0] !== 0x58) this.back!.write(bytes); // 'X', Terminate: the session stays.
    });
  }
}

/** AuthenticationOk. https://www.postgresql.org/docs/current/protocol-message-formats.html */
const authenticated = Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0]);
const keyData = Buffer.from([0x4b, 0, 0, 0, 12]);

/** In what a server says once it has let somebody in. */
function withOtherProcessId(bytes: Buffer): Buffer {
  const at = bytes.includes(authenticated) ? bytes.indexOf(keyData) : -1;
  if (at < 0) return bytes;
  const changed = Buffer.from(bytes);
  changed.writeInt32BE(-7, at + keyData.length);
  return changed;
}

/** The database's URL, by way of a server that hands each connection on. */
async function between(t: TestContext, url: string, serve: (front: Socket, port: number) => void): Promise<string> {
  const through = new URL(url);
  const port = Number(through.port);
  const fronts = new Set<Socket>();
  const server: Server = createServer((front) => {
    fronts.add(front);
    serve(front, port);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => {
    for (const front of fronts) front.destroy();
    server.close();
  });
  through.port = String((server.address() as AddressInfo).port);
  return through.href;
}

function endTogether(a: Socket, b: Socket): void {
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}
