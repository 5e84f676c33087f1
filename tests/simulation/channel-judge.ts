/** Holds what channels told against the history: in each stretch the changes of the rows that are asked for, once, in order. */
import { formatLsn } from "../../engine/protocol.ts";
import type { Stretch, Told } from "./channel.ts";
import { type Access, within } from "./filter.ts";
import type { Event, History } from "./history.ts";
import { takeWhere, Violation } from "./judge.ts";

/** How far a stretch is held against the history. */
interface Reading {
  readonly stretch: Stretch;
  /** All of its events up to this commit were told. */
  commit: number;
  told: number;
  /** Those that have not been wrong yet. */
  access: readonly Access[];
}

export class ChannelJudge {
  /** Events that were right. */
  events = 0;
  stretches = 0;
  private readonly history: History;
  private readonly waiting: Stretch[] = [];
  private readings: Reading[] = [];

  constructor(history: History) {
    this.history = history;
  }

  take(stretches: readonly Stretch[]): void {
    this.stretches += stretches.length;
    this.waiting.push(...stretches);
  }

  /** Everything that the history is far enough for. Throws Violation. */
  async judge(): Promise<void> {
    for (const stretch of takeWhere(this.waiting, ({ from }) => from <= this.history.knownTo)) this.begin(stretch);
    for (const reading of this.readings) await this.read(reading);
    this.readings = this.readings.filter(({ stretch, told }) => !stretch.isOver || told < stretch.told.length);
  }

  /** The last commit that no stretch needs any more. */
  get done(): number {
    const begun = this.waiting.map(({ from }) => this.history.commitAt(from));
    return Math.min(...begun, ...this.readings.map(({ commit }) => commit));
  }

  /** Who has not told of everything that is known, of those that go on. */
  async lacking(): Promise<string | undefined> {
    await this.judge();
    if (this.waiting[0]) return this.waiting[0].client;
    for (const reading of this.readings) {
      const { stretch, commit, told } = reading;
      if (stretch.isOver) continue;
      const rest = stretch.told.slice(told);
      const { commits } = this.history;
      const choices = await Promise.all(
        reading.access.map((access) => this.expected(reading, access, commit, commits)),
      );
      const isRight = choices.some((expected) => this.areSame(rest, expected));
      if (!isRight && choices.some((expected) => expected.length > rest.length))
        return `${stretch.client}, ${stretch.asked.table} since ${formatLsn(stretch.from)}: ${rest.length} after commit ${commit}`;
      await this.hold(reading, rest, commits);
    }
    return undefined;
  }

  private begin(stretch: Stretch): void {
    this.readings.push({ stretch, commit: this.history.commitAt(stretch.from), told: 0, access: stretch.access });
  }

  /** A commit is whole when the next one has begun. What ends a stretch may come in the middle of one. */
  private async read(reading: Reading): Promise<void> {
    const { stretch } = reading;
    const isOver = stretch.isOver;
    const known = stretch.told.slice(reading.told).filter(({ position }) => position <= this.history.knownTo);
    const last = known.at(-1);
    if (!last) return;
    const whole = known.filter(({ position }) => position < last.position);
    if (whole.length > 0) await this.hold(reading, whole, this.history.commitAt(whole.at(-1)!.position));
    const isAllKnown = reading.told + known.length - whole.length === stretch.told.length;
    if (isOver && isAllKnown)
      await this.hold(reading, known.slice(whole.length), this.history.commitAt(last.position), true);
  }

  private async hold(reading: Reading, told: readonly Told[], commit: number, isPart = false): Promise<void> {
    const right: Access[] = [];
    let expected: readonly Event[] = [];
    for (const access of reading.access) {
      const events = await this.expected(reading, access, reading.commit, commit);
      expected = isPart ? events.slice(0, told.length) : events;
      if (this.areSame(told, expected)) right.push(access);
    }
    if (right.length === 0) throw new Violation(this.explain(reading, told, expected));
    this.events += told.length;
    reading.access = right;
    reading.told += told.length;
    reading.commit = commit;
  }

  private expected({ stretch }: Reading, access: Access, from: number, to: number): Promise<Event[]> {
    const { asked } = stretch;
    return this.history.events(asked.table, { filters: [within(access, asked)], columns: asked.columns }, from, to);
  }

  private areSame(told: readonly Told[], expected: readonly Event[]): boolean {
    return told.length === expected.length && told.every((one, i) => this.isSame(one, expected[i]!));
  }

  private isSame({ type, position, old, row }: Told, expected: Event): boolean {
    if (type !== expected.type || this.history.commitAt(position) !== expected.commit) return false;
    return (type === "INSERT" || old === expected.old) && row === expected.row;
  }

  private explain(
    { stretch, told: before, commit }: Reading,
    told: readonly Told[],
    expected: readonly Event[],
  ): string {
    const at = told.findIndex((one, i) => !expected[i] || !this.isSame(one, expected[i]));
    const first = at < 0 ? told.length : at;
    const { asked } = stretch;
    const saying = told
      .slice(first, first + 5)
      .map(
        ({ type, position, key, ...rest }) =>
          `${type} at ${this.history.commitAt(position)} ${JSON.stringify({ key, ...rest })}`,
      );
    const lacking = expected.slice(first, first + 5).map((event) => JSON.stringify(event));
    return [
      `${stretch.client}: a channel tells what did not happen like this`,
      `    ${asked.table} ${asked.where ?? "all rows"} ${JSON.stringify(asked.params ?? [])}, columns ${asked.columns?.join(", ") ?? "all"}, of ${stretch.access.map(String).join(" or of ")}`,
      `    since ${formatLsn(stretch.from)}, ${before} events were right, up to commit ${commit}; then ${told.length} were told where ${expected.length} are expected`,
      `    the first ${first} are the same; told then: ${saying.join("; ") || "nothing"}`,
      `    expected then: ${lacking.join("; ") || "nothing"}`,
    ].join("\n");
  }
}
