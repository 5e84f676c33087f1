/** A Postgres with orders, an engine, and a browser in whose pages contenders have their turns. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BrowserContext, Page } from "playwright-core";
import { launchWithProfile } from "../../tests/support/browser.ts";
import { servePage } from "../../tests/support/page.ts";
import type { Releasing } from "../../tests/support/postgres.ts";
import { copyOut } from "../first-sync/copy-out.ts";
import { addKey, createTable, digestOf, insertRows } from "../first-sync/rows.ts";
import { type BenchPostgres, benchPostgres } from "../postgres.ts";
import { Part } from "../processes.ts";
import { isSmall } from "../small.ts";
import type { Contender, ContenderName } from "./contender.ts";

/** What page.ts leaves for us to reach. */
export interface PageGlobals {
  readonly contending: Promise<Contender>;
  readonly shown: Promise<number>;
}

export interface Visit {
  readonly contender: ContenderName;
  readonly table: string;
  readonly store: string;
  /** There is nothing in the store. */
  readonly empty?: "";
  /** It gets ready ahead for the store that another page has. */
  readonly ready?: "";
  /** It shows rows at once. */
  readonly show?: "";
}

// A page that is isolated has a clock of 5 µs; another one's is twenty times as coarse. https://www.w3.org/TR/hr-time/
const headers = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

const emptyReplica = fileURLToPath(new URL("../../client-sdk/storage/empty.tar.gz", import.meta.url));

/** With a word to the page's code, or without. */
export type Ending = "close" | "crash";

export interface Scene {
  readonly postgres: string;
  readonly browser: string;
  /** What a replica of the table has to hold, as digestOf says it. */
  digest(table: string): string;
  commit(sql: string): Promise<void>;
  open(visit: Visit): Promise<Page>;
  end(page: Page, how: Ending): Promise<void>;
  /** Gives what the contender does, in a page of its own. */
  visit<Result>(visit: Visit, work: (page: Page) => Promise<Result>): Promise<Result>;
}

/** With so many orders in each table, for as long as `work` takes. */
export async function onScene<Result>(
  rowsByTable: Readonly<Record<string, number>>,
  work: (scene: Scene) => Promise<Result>,
): Promise<Result> {
  const releases: (() => Promise<unknown>)[] = [];
  try {
    return await work(await build(rowsByTable, { after: (release) => void releases.push(release) }));
  } finally {
    for (const release of releases.reverse()) await release();
  }
}

async function build(rowsByTable: Readonly<Record<string, number>>, t: Releasing): Promise<Scene> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-browser-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const postgres = await benchPostgres();
  t.after(() => postgres.stop());
  const tables = Object.keys(rowsByTable);
  for (const table of tables) await fill(postgres, table, rowsByTable[table]!);
  const digests = new Map<string, string>();
  const files: Record<string, string> = { "/empty": emptyReplica };
  for (const table of tables) {
    digests.set(table, await digest(postgres, table));
    files[`/rows/${table}`] = join(directory, table);
    await writeFile(join(directory, table), (await copyOut(postgres.url, table)).lines);
  }
  const engine = new Part(
    join(import.meta.dirname, "..", "engine.ts"),
    postgres.url,
    tables.join(),
    join(directory, "engine"),
  );
  t.after(() => engine.stop());
  const server = `ws://127.0.0.1:${await engine.says<number>()}`;
  const [context, address] = await Promise.all([
    launchWithProfile(t, { measures: !isSmall() }),
    servePage(t, { root: new URL(".", import.meta.url), headers, files }),
  ]);
  const open = async (visit: Visit): Promise<Page> => {
    const page = await context.newPage();
    const query = new URLSearchParams({ ...visit, server, ...(isSmall() && { prepared: "" }) });
    await page.goto(`${address}/?${query.toString()}`);
    return page;
  };
  return {
    postgres: postgres.version,
    browser: await versionOf(context),
    digest: (table) => digests.get(table)!,
    commit: async (sql) => void (await postgres.query(sql)),
    open,
    end: (page, how) => (how === "close" ? page.close({ runBeforeUnload: false }) : crash(context, page)),
    async visit(visit, work) {
      const page = await open(visit);
      try {
        return await work(page);
      } finally {
        await page.close();
      }
    },
  };
}

async function fill({ query }: BenchPostgres, table: string, rows: number): Promise<void> {
  await query(`${createTable(table)}; ${insertRows(table, rows)}; ${addKey(table)}`);
  await query(`vacuum analyze ${table}`);
}

async function digest({ query }: BenchPostgres, table: string): Promise<string> {
  await query("set timezone = 'UTC'");
  const [row] = await query<{ digest: string }>(digestOf(table));
  return row!.digest;
}

async function crash(context: BrowserContext, page: Page): Promise<void> {
  const session = await context.newCDPSession(page);
  // It cannot answer.
  await Promise.race([session.send("Page.crash").catch(() => {}), page.waitForEvent("crash")]);
}

async function versionOf(context: BrowserContext): Promise<string> {
  const page = await context.newPage();
  const agent = await page.evaluate(() => navigator.userAgent);
  await page.close();
  return `Chromium ${/Chrome\/([\d.]+)/.exec(agent)?.[1] ?? ""}`;
}
