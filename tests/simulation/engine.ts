/**
 * An engine in a process of its own, which can be killed, stopped in its tracks, and started again on the same data. One
 * process may hold several engines, each on a database of its own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { WalcastConfig } from "../../engine/config.ts";
import { processFlags } from "../support/processes.ts";
import type { Target } from "./wire.ts";

const program = fileURLToPath(new URL("./engine-process.ts", import.meta.url));
/** Enough of what an engine said last to see what it was doing. */
const linesKept = 200;
/** At each start, of every table that may come to be: nothing is learned from it. */
const isNoise = (line: string): boolean => line.includes('"msg":"there is no table');
const startsMax = 8;

export class EngineProcess {
  readonly name: string;
  private readonly configs: readonly WalcastConfig[];
  private child: ChildProcess | undefined;
  private prepared: ChildProcess | undefined;
  private readonly lines: string[] = [];
  /** Where the engines listen, in the order of their configs; empty while they do not. */
  urls: readonly string[] = [];
  /** For Node, of the next start. */
  flags: readonly string[] = [];
  /** It ended, and nobody had asked for it. */
  died: string | undefined;

  constructor(name: string, ...configs: readonly WalcastConfig[]) {
    this.name = name;
    this.configs = configs;
  }

  get target(): Target | undefined {
    const url = this.urls[0] === undefined ? undefined : new URL(this.urls[0]);
    return url && { name: this.name, host: url.hostname, port: Number(url.port) };
  }

  /** While it runs. */
  get pid(): number {
    return this.child!.pid!;
  }

  get said(): string {
    return this.lines.join("\n");
  }

  /** Why shapes had to be loaded anew since it started, by its own count. */
  async resyncs(): Promise<string> {
    if (this.urls[0] === undefined) return "not running";
    const text = await fetch(new URL("/metrics", this.urls[0])).then(
      (response) => response.text(),
      (error: unknown) => String(error),
    );
    return text
      .split("\n")
      .filter((line) => /^walcast_(resyncs_total|invariant_breaches_total)/.test(line) && !line.endsWith(" 0"))
      .join(", ");
  }

  /** What a start needs of the machine is done now: the next one only has to begin. */
  prepare(): void {
    this.prepared ??= this.spawn();
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

  async close(): Promise<void> {
    await this.kill();
    this.child = this.prepared;
    this.prepared = undefined;
    await this.kill();
  }

  freeze(): void {
    this.child?.kill("SIGSTOP");
  }

  thaw(): void {
    this.child?.kill("SIGCONT");
  }

  private spawn(): ChildProcess {
    const flags = [...processFlags, ...this.flags];
    return spawn(process.execPath, [...flags, program, JSON.stringify(this.configs)], {
      stdio: ["pipe", "pipe", "pipe"],
    });
  }

  private async startOnce(): Promise<boolean> {
    const child = this.prepared ?? this.spawn();
    this.prepared = undefined;
    this.child = child;
    const listening = new Promise<readonly string[] | undefined>((resolve) => {
      createInterface(child.stdout!).on("line", (line) => {
        if (line.startsWith("[")) resolve(JSON.parse(line) as string[]);
        else this.keep(line);
      });
      createInterface(child.stderr!).on("line", (line) => this.keep(line));
      child.on("close", () => resolve(undefined));
    });
    child.stdin!.on("error", () => {});
    child.stdin!.write("\n");
    const urls = await listening;
    if (this.child !== child) return true;
    this.urls = urls ?? [];
    if (urls) child.on("exit", (code, signal) => this.ended(child, String(code ?? signal)));
    return urls !== undefined;
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    this.child = undefined;
    this.urls = [];
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, "close");
  }

  private ended(child: ChildProcess, how: string): void {
    if (this.child !== child) return;
    this.died = `${this.name} ended by itself (${how}):\n${this.said}`;
    this.urls = [];
  }

  private keep(line: string): void {
    if (isNoise(line)) return;
    this.lines.push(line.replace(/"stack":"(?:[^"\\]|\\.)*",?/, "").slice(0, 2_000));
    if (this.lines.length > linesKept) this.lines.shift();
  }
}
