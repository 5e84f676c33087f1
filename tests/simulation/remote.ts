/**
 * A client in a process of its own, with its replica in a directory, so that it can be killed at any moment and go on from
 * what is on disk. What it shows it tells in lines, before anything else happens.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { formatLsn, type Lsn, parseLsn, zeroLsn } from "../../engine/protocol.ts";
import { processFlags } from "../support/processes.ts";
import type { Access, Asked } from "./filter.ts";
import type { Observation, ObservedTable } from "./observer.ts";
import type { Refetch, Watching } from "./watching.ts";

const program = fileURLToPath(new URL("./remote-process.ts", import.meta.url));

export interface RemoteOptions {
  readonly name: string;
  readonly url: string;
  readonly directory: string;
}

/** What the program is told. */
export interface RemoteTask extends RemoteOptions {
  readonly shapes: readonly Asked[];
  /** By its token, and by those of the processes before since one was complete. */
  readonly access: Access;
  readonly formerly: readonly Access[];
  /** Where the replica was when all of these shapes were complete, if it was. */
  readonly lastComplete: string;
  /** That is where an earlier process left it. */
  readonly isComplete: boolean;
}

/** A line of the process. */
export type Told =
  | {
      readonly kind: "state";
      readonly position: string;
      readonly tables: readonly Omit<ObservedTable, "rows">[];
      readonly doing: string;
    }
  | {
      readonly kind: "refetch";
      readonly refetch: Omit<Refetch, "from" | "to">;
      readonly from: string;
      readonly to: string;
    }
  | {
      readonly kind: "now";
      readonly position: string;
      readonly isComplete: boolean;
      readonly tables: readonly string[];
      readonly text: string;
    };

export class RemoteWatcher implements Watching {
  readonly name: string;
  tables: ReadonlySet<string> = new Set();
  access: Access;
  private possible: readonly Access[];
  private readonly options: RemoteOptions;
  private observations: Observation[] = [];
  private refetches: Refetch[] = [];
  private shapes: readonly Asked[] = [];
  private child: ChildProcess | undefined;
  private position: Lsn = zeroLsn;
  private isComplete = false;
  private lastComplete: Lsn = zeroLsn;
  private text = "";
  private count = 0;
  private readonly errors: string[] = [];

  constructor(options: RemoteOptions, access: Access) {
    this.options = options;
    this.access = access;
    this.possible = [access];
    this.name = options.name;
  }

  /** Other shapes than before have to be loaded, and so has what another token may see. Resolves when the process is at work. */
  async start(shapes: readonly Asked[] = this.shapes, access: Access = this.access): Promise<void> {
    if (shapes !== this.shapes) this.lastComplete = this.position;
    const isComplete = shapes === this.shapes && this.isComplete;
    const lastComplete = formatLsn(this.lastComplete);
    const task: RemoteTask = { ...this.options, shapes, access, formerly: this.possible, lastComplete, isComplete };
    this.access = access;
    this.possible = [...this.possible, access];
    this.shapes = shapes;
    this.isComplete = false;
    const child = spawn(process.execPath, [...processFlags, program, JSON.stringify(task)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child = child;
    createInterface(child.stdout).on("line", (line) => this.hear(line, this.child !== child));
    createInterface(child.stderr).on("line", (line) => void this.errors.push(line));
    await Promise.race([once(child.stdout, "data"), once(child, "close")]);
  }

  /** One of its shapes was refused: the schema has changed. */
  get isRefused(): boolean {
    return this.text.includes("\n    error ");
  }

  /** What it told before is read to its end. */
  async kill(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "close");
  }

  close(): Promise<void> {
    return this.kill();
  }

  takeObservations(): Observation[] {
    return this.observations.splice(0);
  }

  takeRefetches(): Refetch[] {
    return this.refetches.splice(0);
  }

  hasReached(position: Lsn): boolean {
    return this.position >= position && this.isComplete;
  }

  describe(): string {
    return [this.text || `${this.name} has not said anything`, ...this.errors.slice(-10)].join("\n    ");
  }

  /** The last line of one that is killed may have been cut off. */
  private hear(line: string, isKilled: boolean): void {
    let told: Told;
    try {
      told = JSON.parse(line) as Told;
    } catch (error) {
      if (isKilled) return;
      throw error;
    }
    this.read(told);
  }

  private read(told: Told): void {
    const { name: client } = this;
    switch (told.kind) {
      case "state": {
        const tables = told.tables.map((table) => ({ ...table, rows: [] }));
        return void this.observations.push({
          ...told,
          client,
          number: ++this.count,
          position: parseLsn(told.position),
          tables,
        });
      }
      case "refetch":
        return void this.refetches.push({ ...told.refetch, from: parseLsn(told.from), to: parseLsn(told.to) });
      case "now":
        this.position = parseLsn(told.position);
        this.isComplete = told.isComplete;
        if (told.isComplete) {
          this.lastComplete = this.position;
          this.possible = [this.access];
        }
        this.tables = new Set(told.tables);
        this.text = told.text;
    }
  }
}
