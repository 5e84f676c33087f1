/**
 * A simulation from a seed: a schema, writers, clients that come and go and change their tokens, changes of the schema, and
 * one fault after another, while every state that any client shows, and every change that a channel tells, is held against
 * what Postgres committed. All chance comes from the seed; what machine and kernel do in between does not, so a seed that
 * failed once may need a few runs to fail again.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { formatLsn, type Lsn } from "../../engine/protocol.ts";
import { Random } from "../splice/random.ts";
import type { Releasing } from "../support/postgres.ts";
import { ChannelJudge } from "./channel-judge.ts";
import { faults } from "./faults.ts";
import { Judge, Violation } from "./judge.ts";
import { decodedName, everyRowOf } from "./layout.ts";
import { randomAccess } from "./rules.ts";
import { kinds } from "./schema.ts";
import { Stage } from "./stage.ts";
import { Tally } from "./tally.ts";
import type { Watcher } from "./watcher.ts";
import type { Watching } from "./watching.ts";

/** No progress for so long is a failure of its own. Far above what a busy machine takes. */
const progressMs = 90_000;

export class Simulation {
  readonly seed: number;
  private readonly stage: Stage;
  private judge!: Judge;
  private channelJudge!: ChannelJudge;
  private readonly random: Random;
  private readonly trace: string[] = [];
  /** Those that come next: none comes again before all have been. */
  private faultNames: string[] = [];
  private readonly faultCounts = new Tally(Object.keys(faults));
  private readonly schemaCounts = new Tally(kinds);
  private readonly startedAt = performance.now();

  constructor(seed: number) {
    this.seed = seed;
    this.random = new Random(seed);
    this.stage = new Stage(this.random.fork(), (event) => this.note(event));
  }

  /** Runs for about so long, then looks whether everybody ends up with what Postgres has. */
  async run(seconds: number, t: Releasing): Promise<void> {
    try {
      await this.within(this.open(t), "everything starts");
      const end = this.elapsedMs + seconds * 1_000;
      while (this.elapsedMs < end) await this.round();
      await this.settle();
    } catch (error) {
      throw new Error(
        `${await this.report()}\n\n${error instanceof Violation ? error.message : String((error as Error).stack)}`,
        { cause: error },
      );
    } finally {
      await this.stage.close();
    }
  }

  private async open(t: Releasing): Promise<void> {
    await this.stage.open(t);
    this.judge = new Judge(this.stage.history);
    this.channelJudge = new ChannelJudge(this.stage.history);
    this.note("everything runs");
  }

  // ── Running ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async round(): Promise<void> {
    const { random } = this;
    if (random.chance(0.5)) await this.changeMinds();
    if (random.chance(0.2)) this.changeTokens();
    if (random.chance(0.25)) await this.changeSchema();
    if (random.chance(0.4)) await this.fault();
    if (random.chance(0.06)) await this.settle();
    await delay(this.random.integer(20, 300));
    await this.check();
  }

  private async changeMinds(): Promise<void> {
    const watcher = this.random.pick(this.stage.watchers);
    this.note(`${watcher.name} changes its mind`);
    await this.within(watcher.changeMind(this.stage.schema.tables), "a client changes its mind");
  }

  /** On the connection that there is, or so that the next one is another's. */
  private changeTokens(): void {
    const { watchers, wires } = this.stage;
    const number = this.random.integer(0, watchers.length - 1);
    const watcher = watchers[number]!;
    const access = randomAccess(this.random);
    const isNow = this.random.chance(0.6);
    this.note(
      `${watcher.name} gets a token for ${access.join() || "nothing"}${isNow ? "" : " when it connects again"}`,
    );
    if (isNow) return watcher.becomeNow(access);
    watcher.becomeLater(access);
    wires[number]!.reset();
  }

  private async changeSchema(): Promise<void> {
    try {
      const db = await this.stage.connection();
      await db.query("set lock_timeout = '2s'");
      const { kind, statements } = await this.stage.schema.change(db);
      this.schemaCounts.add(kind);
      this.note(statements);
    } catch (error) {
      this.note(`a schema change failed: ${(error as Error).message}`);
      await this.stage.disconnect();
    }
  }

  private async fault(): Promise<void> {
    if (this.faultNames.length === 0) this.faultNames = this.random.shuffled(Object.keys(faults));
    const name = this.faultNames.pop()!;
    this.note(name);
    await this.within(faults[name]!(this.stage, this.random), name);
    this.faultCounts.add(name);
    this.note(`${name}: over`);
  }

  /** With nobody writing, every client ends up with every commit. */
  private async settle(): Promise<void> {
    const { oracle, history, writers, everybody } = this.stage;
    this.note("everything settles");
    await writers.pause();
    // Flushes what writers committed without waiting for it: until then no slot tells it.
    await this.stage.query("set synchronous_commit = on; select pg_logical_emit_message(true, 'settled', '')");
    await oracle.readToTheEnd();
    for (const watcher of everybody) {
      const end = history.lastChange(watcher.tables);
      await this.within(this.reach(watcher, end), `${watcher.name} reaches ${formatLsn(end)}`);
    }
    await this.check();
    while (this.judge.pending > 0) await this.check();
    await this.within(this.tellEverything(), "every channel tells what has changed");
    await this.compareOracle();
    for (const watcher of this.stage.watchers) await this.lookForForbidden(watcher);
    writers.resume();
    this.note("everything has settled");
  }

  /** The oracle itself: what it has learned from the log is what the tables have. */
  private async compareOracle(): Promise<void> {
    const { schema, history } = this.stage;
    for (const table of schema.tables) {
      const { rows } = await (await this.stage.connection()).query<(string | null)[]>(everyRowOf(table.name));
      const known = await history.rows(decodedName(table.name), { filters: [{}] });
      assert.deepEqual(known.map((row) => JSON.stringify(row)).sort(), rows.map((row) => JSON.stringify(row)).sort());
    }
  }

  /** Also among what nobody asks for any more. */
  private async lookForForbidden(watcher: Watcher): Promise<void> {
    const forbidden = await watcher.forbidden();
    if (forbidden.length > 0) throw new Violation(`${watcher.name} still has rows of ${forbidden.join()}`);
  }

  private async reach(watcher: Watching, end: Lsn): Promise<void> {
    while (!this.stopped && !watcher.hasReached(end)) await delay(20);
  }

  private async tellEverything(): Promise<void> {
    for (;;) {
      const lacking = await this.channelJudge.lacking();
      if (lacking === undefined) return;
      if (this.stopped) return this.note(`not told: ${lacking}`);
      await delay(20);
      await this.check();
    }
  }

  private async check(): Promise<void> {
    const { engines, oracle, everybody, watchers, history, canaries } = this.stage;
    for (const { engine } of engines) if (engine.died !== undefined) throw new Violation(engine.died);
    await oracle.read();
    const reached = watchers.map(({ position }) => history.commitAt(position));
    for (const watcher of everybody) {
      this.judge.take(watcher.takeObservations());
      this.judge.takeRefetches(watcher.takeRefetches());
    }
    for (const watcher of watchers) this.channelJudge.take(watcher.takeStretches());
    await this.judge.judge();
    await this.channelJudge.judge();
    history.forgetChanges(Math.min(this.channelJudge.done, ...reached));
    if (canaries.found.length > 0) throw new Violation(canaries.found[0]);
  }

  private stopped = false;

  /** Fails where nothing comes of it for very long. */
  private async within(work: Promise<void>, doing: string): Promise<void> {
    const timer = new AbortController();
    const late = delay(progressMs, undefined, { signal: timer.signal }).then(
      async () => {
        this.stopped = true;
        // Who still waits says for what.
        await delay(1_000);
        throw new Violation(`no progress: ${doing}`);
      },
      () => {},
    );
    await Promise.race([work, late]).finally(() => timer.abort());
  }

  // ── Telling ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** How much was looked at, and how often each thing occurred. */
  summary(): string {
    const { compared, comparedWithColumns, passedOver } = this.judge;
    const { events, stretches } = this.channelJudge;
    const { history, watchers, wires, canaries } = this.stage;
    const sum = (counts: readonly number[]): number => counts.reduce((all, count) => all + count, 0);
    return [
      `${history.commits} commits, ${this.trace.length} events`,
      `tables in states: ${compared} compared, of these ${comparedWithColumns} with some of their columns; ${passedOver} not`,
      `channels: ${events} changes told in ${stretches} stretches`,
      `tokens: ${sum(watchers.map(({ tokens }) => tokens.changes))} changes; ${canaries.bytes} bytes held nothing that was not for their client`,
      `connections: ${sum(wires.map(({ connections }) => connections))}, of these ${sum(wires.map(({ moves }) => moves))} to another engine than before`,
      `schema changes: ${this.schemaCounts.toString()}`,
      `faults: ${this.faultCounts.toString()}`,
    ].join("\n");
  }

  private get elapsedMs(): number {
    return performance.now() - this.startedAt;
  }

  private note(event: string): void {
    this.trace.push(`${(this.elapsedMs / 1_000).toFixed(2).padStart(7)} ${event}`);
    if (process.env.WALCAST_TRACE) console.log(this.trace.at(-1));
  }

  private async report(): Promise<string> {
    const engines = this.stage.engines.map(async ({ engine }) => [
      `what ${engine.name} said last:`,
      ...engine.said.split("\n").slice(-40),
      `its counts: ${await engine.resyncs()}`,
      "",
    ]);
    return [
      `seed ${this.seed} failed. Again: node --conditions=@walcast/source tests/simulation/run.ts --seed ${this.seed} --seconds ${Math.ceil(this.elapsedMs / 1_000)}`,
      "",
      "what happened last:",
      ...this.trace.slice(-60),
      "",
      ...this.stage.everybody.map((watcher) => watcher.describe()),
      "",
      ...(await Promise.all(engines)).flat(),
    ].join("\n");
  }
}
