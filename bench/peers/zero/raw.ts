/**
 * Many raw clients of zero-cache in one process, as cheap as ours: one real client shows how to greet, and the others send the same
 * greeting with names of their own, and look for the commits' marks in what comes. Says "ready" once each has its rows, and after the
 * last commit when each one's bytes were at each of them.
 */
import { once } from "node:events";
import { Zero } from "@rocicorp/zero";
import { WebSocket as Socket } from "ws";
import { type Arrivals, arrivalsOfEach, marksIn } from "../../latency/arrivals.ts";
import { say, whenDismissed } from "../../processes.ts";
import { workloads } from "./schema.ts";

const [port = "", commits = "", clients = ""] = process.argv.slice(2);
const { schema, queries } = workloads.newest;

interface Greeting {
  readonly url: string;
  readonly protocol: string;
}

const greeting = await recorded();
const each = arrivalsOfEach(Number(clients), Number(commits));
for (const [number, arrivals] of each.entries()) await subscribe(greeting, `x${number}`, arrivals);
whenDismissed();
say("ready");

async function recorded(): Promise<Greeting> {
  const { WebSocket } = globalThis;
  let found: Greeting | undefined;
  globalThis.WebSocket = class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      found ??= { url: String(url), protocol: String(protocols) };
    }
  };
  const zero = new Zero({ cacheURL: `http://127.0.0.1:${port}`, schema, kvStore: "mem" });
  await zero.preload(queries.all()).complete;
  await zero.close();
  globalThis.WebSocket = WebSocket;
  return found!;
}

/** With a name of its own behind that of the client which showed how. */
async function subscribe({ url, protocol }: Greeting, name: string, arrivals: Arrivals): Promise<void> {
  const own = new URL(url);
  let text = Buffer.from(decodeURIComponent(protocol), "base64").toString();
  for (const parameter of ["clientID", "clientGroupID", "wsid"]) {
    const recorded = own.searchParams.get(parameter)!;
    own.searchParams.set(parameter, recorded + name);
    text = text.replaceAll(`"${recorded}"`, `"${recorded + name}"`);
  }
  const socket = new Socket(own, encodeURIComponent(Buffer.from(text).toString("base64")), {
    perMessageDeflate: false,
  });
  await once(socket, "open");
  await new Promise<void>((resolve, reject) => {
    socket.on("message", (data: Buffer) => {
      const at = Number(process.hrtime.bigint());
      if (data.includes('["error"')) reject(new Error(data.toString()));
      if (data.includes('"gotQueriesPatch"')) resolve();
      arrivals.saw(at, marksIn(data));
    });
  });
}
