/**
 * What some filters keep of one form of a table, over time: how many rows after each commit, and the sum of their hashes.
 * Which rows that are is Postgres' answer, with the columns' own types.
 */
import type { Pool } from "pg";
import { anyOf, type Filter } from "./filter.ts";
import type { Layout } from "./layout.ts";
import { hashOf } from "./row-hash.ts";

export type Row = readonly (string | null)[];

/** What is looked at. */
export interface View {
  readonly filters: readonly Filter[];
  /** All of them where it is undefined. */
  readonly columns?: readonly string[] | undefined;
}

interface Kept {
  readonly id: number;
  readonly born: number;
  readonly died: number;
  readonly hash: number;
}

interface Moment {
  readonly commit: number;
  readonly count: number;
  readonly hash: number;
}

export class Timeline {
  readonly columns: readonly string[];
  private readonly era: number;
  private readonly layout: Layout;
  private readonly view: View;
  private readonly moments: Moment[] = [];
  private advanced = 0;
  /** A column that it names is not there. */
  private meaningless: boolean;

  constructor(era: number, layout: Layout, view: View) {
    this.era = era;
    this.layout = layout;
    this.view = view;
    const names = layout.columns.map(({ name }) => name);
    const { columns = names } = view;
    this.columns = names.filter((name) => columns.includes(name));
    this.meaningless = this.columns.length < columns.length;
  }

  at(commit: number): { count: number; hash: number } {
    let [low, high] = [0, this.moments.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.moments[middle]!.commit <= commit) low = middle + 1;
      else high = middle;
    }
    return this.moments[low - 1] ?? { count: 0, hash: 0 };
  }

  /** False where it means nothing for this table. */
  async advance(pool: Pool, to: number): Promise<boolean> {
    if (this.advanced >= to) return !this.meaningless;
    const kept = await this.kept(pool, `born > ${this.advanced} or died > ${this.advanced}`);
    if (!kept) return false;
    const events = kept.flatMap(({ born, died, hash }) => [
      { commit: born, count: 1, hash },
      { commit: died, count: -1, hash: -hash },
    ]);
    const news = events.filter(({ commit }) => commit > this.advanced && commit <= to);
    for (const { commit, count, hash } of news.toSorted((a, b) => a.commit - b.commit)) this.add(commit, count, hash);
    this.advanced = to;
    return true;
  }

  /** The hashes of those among these versions that are kept; undefined where it means nothing for this table. */
  async hashes(pool: Pool, versions: readonly number[]): Promise<ReadonlyMap<number, number> | undefined> {
    const kept = await this.kept(pool, `id = any('{${versions.join(",")}}')`);
    return kept && new Map(kept.map(({ id, hash }) => [id, hash]));
  }

  async rows(pool: Pool, commit: number): Promise<Row[]> {
    const rows = await this.select<{ fields: Row }>(
      pool,
      `born <= ${commit} and died > ${commit}`,
      `${this.fields} as fields`,
    );
    return rows?.map(({ fields }) => fields) ?? [];
  }

  private add(commit: number, count: number, hash: number): void {
    const last = this.moments.at(-1) ?? { commit: 0, count: 0, hash: 0 };
    const next = { commit, count: last.count + count, hash: last.hash + hash };
    if (last.commit === commit) this.moments.pop();
    this.moments.push(next);
  }

  /** Hashes of whole rows are known; of others they are made. */
  private async kept(pool: Pool, which: string): Promise<Kept[] | undefined> {
    if (!this.view.columns) return this.select<Kept>(pool, which, "id, born, died, hash::float8 as hash");
    const rows = await this.select<Omit<Kept, "hash"> & { readonly fields: Row }>(
      pool,
      which,
      `id, born, died, ${this.fields} as fields`,
    );
    return rows?.map(({ fields, ...row }) => ({ ...row, hash: hashOf(fields) }));
  }

  private get fields(): string {
    if (!this.view.columns) return "fields";
    const places = this.columns.map((name) => this.layout.columns.findIndex((column) => column.name === name) + 1);
    return `array[${places.map((place) => `fields[${place}]`).join(", ")}]`;
  }

  /** The condition sees the table's columns and nothing else. */
  private async select<R extends object>(pool: Pool, which: string, list: string): Promise<R[] | undefined> {
    if (this.meaningless) return undefined;
    const { where, params } = anyOf(this.view.filters);
    const typed = this.layout.columns.map(
      ({ name, type }, i) => `v.fields[${i + 1}]::${type} as "${name.replaceAll('"', '""')}"`,
    );
    const sql = `with candidate as materialized (select * from version where era = ${this.era} and (${which}))
      select ${list} from candidate as v
        cross join lateral (select (${where}) as kept from (select ${typed.join(", ")}) as typed) as answer where answer.kept`;
    try {
      return (await pool.query<R>(sql, [...params])).rows;
    } catch (error) {
      if ((error as { code?: string }).code !== undefinedColumn) throw error;
      this.meaningless = true;
      return undefined;
    }
  }
}

const undefinedColumn = "42703";
