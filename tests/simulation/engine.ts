/** An engine in a process of its own, which can be killed, stopped in its tracks, and started again on the same data. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { WalcastConfig } from "../../engine/config.ts";
import type { Target } from "./wire.ts";

const program = fileURLToPath(new URL("./engine-process.ts", import.meta.url));
/** Enough of what an engine said last to see what it was doing. */
const linesKept = 60;
const startsMax = 8;

export class EngineProcess {
  readonly name: string;
  private readonly config: WalcastConfig;
  private child: ChildProcess | undefined;
  private url: URL | undefined;
  private readonly lines: string[] = [];
  /** It ended, and nobody had asked for it. */
  died: string | undefined;
  starts = 0;

  constructor(name: string, config: WalcastConfig) {
    this.name = name;
    this.config = config;
  }

  get target(): Target | undefined {
    return this.url && { host: this.url.hostname, port: Number(this.url.port) };
  }

  get said(): string {
    return this.lines.join("\n");
  }

  /** Resolves when it listens. An engine that cannot start now, because Postgres is away, is started again, a few times. */
  async start(): Promise<void> {
    for (let tries = 0; !(await this.startOnce()); tries++) {
      if (tries === startsMax) throw new Error(`${this.name} does not start:\n${this.said}`);
    }
  }

  /** At once, whatever it is doing. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  /** As an operator would. */
  async stop(): Promise<void> {
    await this.end("SIGTERM");
  }

  freeze(): void {
    this.child?.kill("SIGSTOP");
  }

  thaw(): void {
    this.child?.kill("SIGCONT");
  }

  async metrics(): Promise<string> {
    return (await fetch(new URL("/metrics", this.url))).text();
  }

  private async startOnce(): Promise<boolean> {
    this.starts++;
    const child = spawn(process.execPath, ["--conditions=@walcast/source", program, JSON.stringify(this.config)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child = child;
    const isUp = await new Promise<boolean>((resolve) => {
      createInterface(child.stdout).on("line", (line) => {
        if (line.startsWith("http")) resolve(this.isUp(new URL(line)));
        else this.keep(line);
      });
      createInterface(child.stderr).on("line", (line) => this.keep(line));
      child.on("close", () => resolve(false));
    });
    if (isUp) child.on("exit", (code, signal) => this.ended(child, `${code ?? signal}`));
    return isUp || this.child !== child;
  }

  private isUp(url: URL): true {
    this.url = url;
    return true;
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    this.child = this.url = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, "close");
  }

  private ended(child: ChildProcess, how: string): void {
    if (this.child !== child) return;
    this.died = `${this.name} ended by itself (${how}):\n${this.said}`;
    this.url = undefined;
  }

  private keep(line: string): void {
    this.lines.push(line.slice(0, 600));
    if (this.lines.length > linesKept) this.lines.shift();
  }
}
