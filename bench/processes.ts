/**
 * Parts of a bench that are processes of their own, since two that share an event loop would wait for each other. A
 * child sends messages to its parent and ends when it is disconnected, so that none outlives the bench.
 */
import { type ChildProcess, fork, type StdioOptions } from "node:child_process";
import { once } from "node:events";
import { basename, dirname } from "node:path";

/** Long enough for the slowest part: a child that says nothing for so long is stuck. */
const silentMsMax = 60_000;

/** An engine runs as the program `walcast` does. */
const engineFlags = ["--liftoff-only", "--max-semi-space-size=4", "--expose-gc"];

/** Where parts leave what V8 saw of them; in the environment, as some parts start others. */
const profiles = "WALCAST_BENCH_PROFILES";

/** From here on every part writes a CPU profile into the directory as it ends, named after its file. */
export function writeProfiles(directory: string): void {
  process.env[profiles] = directory;
}

function profileFlags(file: string): readonly string[] {
  const directory = process.env[profiles];
  if (directory === undefined) return [];
  const [folder, name] = [basename(dirname(file)), basename(file, ".ts")];
  // Node fills in the process's id.
  return ["--cpu-prof", `--cpu-prof-dir=${directory}`, `--cpu-prof-name=${folder}-${name}-\${pid}.cpuprofile`];
}

export class Part {
  private readonly child: ChildProcess;
  private readonly name: string;
  private readonly exited: Promise<unknown>;

  constructor(file: string, ...args: readonly string[]) {
    this.name = file;
    const flags = basename(file) === "engine.ts" ? engineFlags : [];
    const execArgv = [...process.execArgv, ...flags, ...profileFlags(file)];
    const stdio = ["ignore", "inherit", "inherit", "ipc"] as StdioOptions;
    this.child = fork(file, args, { execArgv, serialization: "advanced", stdio });
    this.exited = once(this.child, "exit");
  }

  /** The child's next message. */
  async says<Message>(): Promise<Message> {
    const signal = AbortSignal.timeout(silentMsMax);
    const ended = this.exited.then(() => Promise.reject(new Error(`${this.name} ended before it had answered`)));
    const [message] = (await Promise.race([once(this.child, "message", { signal }), ended])) as [Message];
    return message;
  }

  /** The process's id, for those who look at its memory. */
  get pid(): number {
    return this.child.pid!;
  }

  tell(message: unknown): void {
    this.child.send(message as object);
  }

  async stop(): Promise<void> {
    if (this.child.connected) this.child.disconnect();
    await this.exited;
  }
}

/** In the child: tells the parent. */
export function say(message: unknown): void {
  process.send!(message);
}

/** In the child: what the parent tells next. */
export async function told<Message>(): Promise<Message> {
  const [message] = (await once(process, "message")) as [Message];
  return message;
}

/** In the child: what to do when the parent has heard enough, or is gone. */
export function whenDismissed(end: () => void | Promise<void> = () => undefined): void {
  process.once("disconnect", () => void Promise.resolve(end()).finally(() => process.exit()));
}
