/** What bench/browser.ts can have done in a page; all times in milliseconds. */
export type ContenderName = "ours" | "bare" | "peer";

export interface Contender {
  /** From the start of the page's navigation until the newest rows of the store, which has some, are in the page. */
  firstRows(): Promise<number>;
  /** Brings the table into a store that is open and has nothing. */
  load(): Promise<number>;
  /** How long each of so many reads by key took, one after the other. */
  read(keys: readonly number[]): Promise<number[]>;
  digest(): Promise<string>;
  /** Everything is stored, and the store is let go of. */
  close(): Promise<void>;
}

/** What a store that is new begins with, where it does not make its files itself. */
export async function emptyFiles(isPrepared: boolean): Promise<{ loadDataDir?: Blob }> {
  return isPrepared ? { loadDataDir: await (await fetch("/empty")).blob() } : {};
}

/** One that may be the next to have a store that all tabs share. */
export interface Successor extends Contender {
  /** Resolves when the newest rows are in the page, as of when one had this note; the floor knows none, and gives those that it has. */
  shows(note: string): Promise<void>;
}

/** What a page shows first. */
export function newestOf(table: string): string {
  return `select * from ${table} order by id desc limit 50`;
}

export function byKeyOf(table: string): string {
  return `select * from ${table} where id = $1`;
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

export async function timedEach(keys: readonly number[], read: (key: number) => Promise<unknown>): Promise<number[]> {
  const took: number[] = [];
  for (const key of keys) took.push(await timed(() => read(key)));
  return took;
}
