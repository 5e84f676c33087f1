/**
 * Many clients in one process that return at one position. Says "ready" when all of them are greeted; told to go, lets all
 * of them ask at once, and says how many milliseconds later the last one has reached the target and how many bytes came.
 * Without a resume (the floor) they only ask.
 */
import { say, told, whenDismissed } from "../processes.ts";
import { RawSocket } from "./raw-socket.ts";

interface Resume {
  readonly epoch: string;
  readonly position: string;
  readonly identity: string;
  readonly table: string;
}

const [port = "", count = "", target = "", resumeJson = ""] = process.argv.slice(2);
const resume = resumeJson === "" ? undefined : (JSON.parse(resumeJson) as Resume);
const atOnce = 50;
const sockets: RawSocket[] = [];
/** The server gives a client some seconds to say that it resumes, so they come together. */
for (let left = Number(count); left > 0; left -= atOnce)
  sockets.push(...(await Promise.all(Array.from({ length: Math.min(left, atOnce) }, returned))));
whenDismissed(() => {
  for (const { socket } of sockets) socket.destroy();
});
say("ready");
await told();
const startedNs = process.hrtime.bigint();
await Promise.all(sockets.map(reached));
const ms = Number(process.hrtime.bigint() - startedNs) / 1e6;
say({ ms, bytes: sockets.reduce((sum, { bytes }) => sum + bytes, 0) });

async function returned(): Promise<RawSocket> {
  const socket = await RawSocket.open(Number(port));
  if (!resume) return socket;
  const { epoch, position, identity, table } = resume;
  socket.send({ kind: "hello", epoch, position });
  const welcome = await socket.text(({ kind }) => kind === "welcome");
  if (welcome["resumes"] !== true) throw new Error(`expected to resume, found ${JSON.stringify(welcome)}`);
  socket.send({ kind: "subscribe", id: 1, shape: { table }, identity });
  return socket;
}

function reached(socket: RawSocket): Promise<void> {
  const position = BigInt(target);
  return new Promise((resolve, reject) => {
    if (socket.socket.destroyed) return reject(new Error("a socket was closed before it could resume"));
    socket.socket.once("close", () => reject(new Error(`a socket was closed at ${socket.position}`)));
    socket.onBinary = (at) => {
      if (at >= position) resolve();
    };
    socket.send({ kind: "resume" });
  });
}
