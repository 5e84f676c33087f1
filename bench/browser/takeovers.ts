/** Two tabs share a store: the one that has it ends, and the other one goes on. */
import { setTimeout as delay } from "node:timers/promises";
import type { Page } from "playwright-core";
import type { Progress } from "../bench.ts";
import { inTurn, median } from "../measure.ts";
import type { ContenderName, Successor } from "./contender.ts";
import type { Ending, PageGlobals, Scene, Visit } from "./scene.ts";

export interface TakeoverParameters {
  readonly closes: number;
  readonly crashes: number;
  /** How long a tab has been there when it takes over: what it gets ready ahead, it does in the background. */
  readonly readyMs: number;
}

/** Of an earlier visit, with the table's rows. */
export type Stores = Readonly<Record<"ours" | "bare", string>>;

export interface Takeover {
  readonly name: string;
  readonly ours: number;
  readonly floor: number;
}

export async function takeovers(
  scene: Scene,
  table: string,
  stores: Stores,
  { closes, crashes, readyMs }: TakeoverParameters,
  progress: Progress,
): Promise<Takeover[]> {
  const ours = new Tabs(scene, { contender: "ours", table, store: stores.ours }, readyMs);
  const floor = new Tabs(scene, { contender: "bare", table, store: stores.bare }, readyMs);
  await Promise.all([ours.begin(), floor.begin()]);
  const measure = async (how: Ending, rounds: number): Promise<Takeover> => {
    const turn = (tabs: Tabs) => () => {
      progress(`${how}: ${tabs.contender}`);
      return tabs.takeover(how);
    };
    const took = await inTurn(rounds, { ours: turn(ours), floor: turn(floor) }, { warmUp: false });
    return { name: `takeover_${how}_ms`, ours: median(took.ours), floor: median(took.floor) };
  };
  const measured: Takeover[] = [];
  if (closes > 0) measured.push(await measure("close", closes));
  if (crashes > 0) measured.push(await measure("crash", crashes));
  await Promise.all([ours.end(), floor.end()]);
  return measured;
}

class Tabs {
  readonly contender: ContenderName;
  private readonly scene: Scene;
  private readonly visit: Visit;
  private readonly readyMs: number;
  private owner: Page | undefined;
  private written = 0;

  constructor(scene: Scene, visit: Visit, readyMs: number) {
    this.scene = scene;
    this.contender = visit.contender;
    this.visit = visit;
    this.readyMs = readyMs;
  }

  async begin(): Promise<void> {
    this.owner = await this.scene.open({ ...this.visit, show: "" });
    await shown(this.owner);
  }

  /** From the end of the tab that has the store to a commit, made then, that the other one shows. */
  async takeover(how: Ending): Promise<number> {
    const next = await this.openNext();
    await delay(this.readyMs);
    const note = `Written ${++this.written} by ${this.contender}`;
    const shows = next.evaluate(
      async (note) => ((await (globalThis as unknown as PageGlobals).contending) as Successor).shows(note),
      note,
    );
    const started = performance.now();
    await this.scene.end(this.owner!, how);
    await this.scene.commit(
      `update ${this.visit.table} set note = '${note}' where id = (select max(id) from ${this.visit.table})`,
    );
    await shows;
    const took = performance.now() - started;
    this.owner = next;
    return took;
  }

  async end(): Promise<void> {
    await this.owner?.close();
  }

  /** A bare PGlite that waits for the store can show nothing before it has it. */
  private async openNext(): Promise<Page> {
    if (this.contender === "bare")
      return this.scene.open({ ...this.visit, ...(this.readyMs > 0 ? { ready: "" as const } : {}) });
    const next = await this.scene.open({ ...this.visit, show: "" });
    await shown(next);
    return next;
  }
}

function shown(page: Page): Promise<number> {
  return page.evaluate(() => (globalThis as unknown as PageGlobals).shown);
}
