/**
 * Holds every state that a client showed against the history. A table whose shapes are all ready shows exactly what its
 * queries return after the last commit that the client's position covers; one that is being fetched anew shows what it
 * last showed rightly, and never nothing, unless what it may read has changed. Where a token has just changed there are two
 * such answers, until the server has spoken.
 */
import { formatLsn, type Lsn } from "../../engine/protocol.ts";
import { type Access, type Asked, within } from "./filter.ts";
import type { History } from "./history.ts";
import { fieldsOf, type Observation, type ObservedShape, type ObservedTable } from "./observer.ts";
import type { View } from "./timeline.ts";
import type { Refetch } from "./watching.ts";

export class Violation extends Error {}

interface Shown {
  readonly count: number;
  readonly hash: number;
  /** Which shapes: others would have other rows. */
  readonly shapes: string;
  readonly access: readonly Access[];
}

export class Judge {
  /** Tables in states that were compared, those of them with a choice of columns, and those that could not be. */
  compared = 0;
  comparedWithColumns = 0;
  passedOver = 0;
  private readonly history: History;
  private readonly waiting: Observation[] = [];
  private readonly refetches: Refetch[] = [];
  private readonly positions = new Map<string, Lsn>();
  private readonly lastRight = new Map<string, Shown>();

  constructor(history: History) {
    this.history = history;
  }

  /** In the order in which the client showed them. */
  take(observations: readonly Observation[]): void {
    for (const { client, position, doing } of observations) {
      const before = this.positions.get(client);
      if (before !== undefined && position < before)
        throw new Violation(`${client} went back from ${formatLsn(before)} to ${formatLsn(position)} (${doing})`);
      this.positions.set(client, position);
    }
    this.waiting.push(...observations);
  }

  /** Rows may come again where their table has another form or the client another token, and for no other reason. */
  takeRefetches(refetches: readonly Refetch[]): void {
    this.refetches.push(...refetches);
  }

  get pending(): number {
    return this.waiting.length + this.refetches.length;
  }

  /** Everything that the history is far enough for. Throws Violation. */
  async judge(): Promise<void> {
    const { knownTo } = this.history;
    for (const observation of takeWhere(this.waiting, ({ position }) => position <= knownTo))
      await this.judgeOne(observation);
    for (const refetch of takeWhere(this.refetches, ({ to }) => to <= knownTo)) this.judgeRefetch(refetch);
  }

  private judgeRefetch({ client, table, where, params, from, to, hadOtherToken }: Refetch): void {
    if (hadOtherToken) return;
    if (this.history.changedBetween(table, this.history.commitAt(from), this.history.commitAt(to))) return;
    throw new Violation(
      `${client} fetched ${table} ${where ?? ""} ${JSON.stringify(params ?? [])} anew between ${formatLsn(from)} and ${formatLsn(to)}, and its table had not changed`,
    );
  }

  private async judgeOne(observation: Observation): Promise<void> {
    for (const table of observation.tables) await this.judgeTable(observation, table);
  }

  private async judgeTable(observation: Observation, table: ObservedTable): Promise<void> {
    const shapes = table.shapes.filter(({ status }) => status !== "loading");
    const isStale = shapes.every(({ status }) => status === "resyncing");
    const isExact = shapes.every(({ status }) => status === "ready");
    const at = `${observation.client} ${table.name}`;
    if (!isExact && !isStale) return this.passOver(at, table);
    const commit = this.history.commitAt(observation.position);
    const found = { count: table.count, hash: table.hash, shapes: JSON.stringify(shapes.map(askedOf)) };
    const choices = choicesOf(shapes);
    for (const access of choices)
      if (await this.isRight(table, viewOf(shapes, access), commit)) {
        this.compared++;
        if (shapes[0]!.columns) this.comparedWithColumns++;
        return void this.lastRight.set(at, { ...found, access });
      }
    const isLess = table.count === 0 || table.count < (this.lastRight.get(at)?.count ?? 0);
    if (isStale && isLess && shapes.every(({ mayBeEmpty }) => mayBeEmpty)) return this.passOver(at, table);
    if (isStale && this.mayBeStale(found, this.lastRight.get(at), choices)) return;
    throw new Violation(await this.explain(observation, { ...table, shapes }, commit, isStale));
  }

  private async isRight(table: ObservedTable, view: View, commit: number): Promise<boolean> {
    const expected = await this.history.expected(table.name, view, commit);
    if (expected?.count !== table.count || expected.hash !== table.hash) return false;
    return table.count === 0 || expected.columns.join() === table.columns.join();
  }

  /** What was right when it was shown last, as far as it may still be read. */
  private mayBeStale(found: Omit<Shown, "access">, last: Shown | undefined, choices: readonly Access[][]): boolean {
    // Of others nothing is known.
    if (last?.shapes !== found.shapes) return true;
    if (found.count !== last.count || found.hash !== last.hash) return false;
    return choices.some((access) => reaches(access, last.access));
  }

  /** What it shows cannot be told, and where that is something else than before, neither can what it shows next. */
  private passOver(at: string, { count, hash }: ObservedTable): void {
    this.passedOver++;
    const last = this.lastRight.get(at);
    if (last?.count !== count || last.hash !== hash) this.lastRight.delete(at);
  }

  private async explain(
    observation: Observation,
    table: ObservedTable,
    commit: number,
    isStale: boolean,
  ): Promise<string> {
    const choices = choicesOf(table.shapes);
    const view = viewOf(table.shapes, choices[0]!);
    const rows = await this.history.rows(table.name, view, commit);
    const expected = new Set(rows.map((row) => short(row)));
    const found = new Set(table.rows.map((row) => short(fieldsOf(row))));
    const list = (rows: Iterable<string>): string =>
      [...rows]
        .slice(0, 5)
        .map((row) => `\n      ${row}`)
        .join("");
    return [
      `${observation.client} shows what ${table.name} never was (state ${observation.number}, at ${formatLsn(observation.position)}, ${this.history.describe(commit)}; ${observation.doing})`,
      ...table.shapes.map(
        ({ where, params, status, access }) =>
          `    ${status} ${where ?? "all rows"} ${JSON.stringify(params ?? [])}, of ${access.map(String).join(" or of ")}`,
      ),
      `    columns ${table.columns.join(", ")}; expected ${rows.length} rows, found ${table.count}${isStale ? "; and it is not what it showed last" : ""}`,
      `    missing:${list(expected.difference(found))}`,
      `    too many:${list(found.difference(expected))}`,
      `    it would be right after: ${await this.whenRight(table, view, commit)}`,
    ].join("\n");
  }

  /** Commits around, after which these rows would have been the right ones. */
  private async whenRight(table: ObservedTable, view: View, commit: number): Promise<string> {
    const right: number[] = [];
    for (let other = Math.max(0, commit - 200); other <= Math.min(this.history.commits, commit + 200); other++) {
      const expected = await this.history.expected(table.name, view, other);
      if (expected?.count === table.count && expected.hash === table.hash) right.push(other);
    }
    return right.length === 0 ? "no commit near" : `commits ${right.slice(0, 8).join(", ")}`;
  }
}

function askedOf({ where, params, columns }: ObservedShape): Omit<Asked, "table"> {
  return { ...(where === undefined ? {} : { where }), ...(params && { params }), ...(columns && { columns }) };
}

/** Shape by shape. */
function reaches(access: readonly Access[], other: readonly Access[]): boolean {
  return access.every((one, i) => other[i]!.every((region) => one.includes(region)));
}

/** The newest tokens first: as a rule they are right. */
function choicesOf(shapes: readonly ObservedShape[]): Access[][] {
  return shapes.reduce<Access[][]>(
    (choices, { access }) => access.toReversed().flatMap((one) => choices.map((others) => [...others, one])),
    [[]],
  );
}

function viewOf(shapes: readonly ObservedShape[], access: readonly Access[]): View {
  return { filters: shapes.map((shape, i) => within(access[i]!, shape)), columns: shapes[0]!.columns };
}

/** Takes them out of the list. */
export function takeWhere<T>(list: T[], isWanted: (item: T) => boolean): T[] {
  const { wanted = [], rest = [] } = Object.groupBy(list, (item) => (isWanted(item) ? "wanted" : "rest"));
  list.splice(0, list.length, ...rest);
  return wanted;
}

function short(row: readonly (string | null)[]): string {
  return JSON.stringify(
    row.map((field) => (field !== null && field.length > 40 ? `${field.slice(0, 12)}…${field.length}` : field)),
  );
}
