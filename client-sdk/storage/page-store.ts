/**
 * A replica's files in one IndexedDB database. PGlite works on files in memory and tells what has changed since the last
 * time; all of that is written in one transaction. So what is stored is always one moment's files, as a process that is
 * killed leaves them, from which Postgres recovers, whenever the page or the browser ends.
 *
 * A file is kept in pages, since most writes change a few of Postgres' blocks of 8 KB. Zeros are stored like anything
 * else: a page that is not there is damage, not a hole.
 */
import type { ChangeSet, FileWrite, StorageBackend, StorageEntry } from "@electric-sql/pglite/memfs-frontend";
import { done, open, result } from "./indexed-db.ts";

// Chromium keeps values of more than 64 KB in files of their own, which are slow to open.
const PAGE_BYTES = 32 * 1024;
// Of a large store, some megabytes at a time.
const PAGES_AT_ONCE = 256;

const FENCE = "fence";

/** The files in memory, as they are when they are asked for. */
export interface Files {
  read(path: string, at: number, length: number): Uint8Array;
  /** Everything there is, parents before what is in them; files without their bytes. */
  list(): Iterable<StoredFile>;
}

export interface StoredFile {
  readonly path: string;
  /** Undefined for a directory. */
  readonly size: number | undefined;
}

interface StoredPage {
  readonly path: string;
  readonly number: number;
  readonly bytes: Uint8Array;
}

export class PageStore implements StorageBackend {
  private readonly name: string;
  private readonly files: Files;
  private readonly lost: (reason: string) => void;
  private database: IDBDatabase | undefined;
  /** Names whoever opened the store last: only that one writes. */
  private readonly fence = crypto.randomUUID();
  /** Of the files that are stored. */
  private sizes = new Map<string, number>();

  /** `lost`: somebody has deleted the database while it was open; what is in memory is stored again by the next `apply`. */
  constructor(name: string, files: Files, lost: (reason: string) => void) {
    this.name = name;
    this.files = files;
    this.lost = lost;
  }

  async init(): Promise<void> {
    this.database = await this.open();
    const transaction = this.database.transaction("owner", "readwrite");
    transaction.objectStore("owner").put(this.fence, FENCE);
    await done(transaction);
  }

  /** Throws where a page is missing. */
  async *load(): AsyncGenerator<StorageEntry> {
    const transaction = this.database!.transaction(["files", "pages"]);
    const entries = await result<StoredFile[]>(transaction.objectStore("files").getAll());
    const loads = new Map<string, Load>();
    for (const { path, size } of entries) if (size !== undefined) loads.set(path, new Load(path, size));
    for await (const page of pagesOf(transaction)) loads.get(page.path)?.place(page);
    // In the order of their names a directory comes before what is in it.
    for (const { path, size } of entries) {
      if (size !== undefined) this.sizes.set(path, size);
      yield size === undefined ? { kind: "dir", path } : { kind: "file", path, data: loads.get(path)!.whole() };
    }
  }

  /** What is to be written is read before anything is waited for: the files go on changing. */
  async apply(changes: ChangeSet): Promise<void> {
    if (this.database) return this.write(this.database, changes);
    this.sizes.clear();
    const database = await this.open();
    await this.write(database, this.everything());
    this.database = database;
  }

  async close(): Promise<void> {
    this.database?.close();
    this.database = undefined;
  }

  private async open(): Promise<IDBDatabase> {
    const database = await open(this.name, (created) => {
      created.createObjectStore("files", { keyPath: "path" });
      created.createObjectStore("pages", { keyPath: ["path", "number"] });
      created.createObjectStore("owner").put(this.fence, FENCE);
    });
    // Whoever deletes it waits until we let go of it. A site's data that are cleared are gone without asking.
    database.onversionchange = () => {
      database.close();
      this.gone(database, "it was deleted");
    };
    database.onclose = () => this.gone(database, "the browser closed it");
    return database;
  }

  private gone(database: IDBDatabase, reason: string): void {
    if (this.database !== database) return;
    this.database = undefined;
    this.lost(reason);
  }

  private everything(): ChangeSet {
    const all = [...this.files.list()];
    const data = all.flatMap(({ path, size }) => (size === undefined ? [] : [wholeFile(path, size)]));
    const ops = all.flatMap(({ path, size }) => (size === undefined ? [{ op: "mkdir" as const, path }] : []));
    return { ops, files: { wal: [], data, control: [] } };
  }

  /** All of it or nothing. */
  private async write(database: IDBDatabase, { ops, files }: ChangeSet): Promise<void> {
    const transaction = database.transaction(["files", "pages", "owner"], "readwrite");
    const isDone = done(transaction);
    const fenced = this.checkFence(transaction);
    const sizes = new Map(this.sizes);
    const writing = new Writing(transaction, this.files, sizes);
    for (const { op, path } of ops) {
      if (op === "mkdir") writing.directory(path);
      else writing.remove(path);
    }
    for (const file of [...files.wal, ...files.data, ...files.control]) writing.file(file);
    await Promise.all([fenced, isDone]);
    this.sizes = sizes;
  }

  /** Whoever was frozen may not know yet that it has lost the store. Its files are another history than what is stored. */
  private async checkFence(transaction: IDBTransaction): Promise<void> {
    const fence = await result<string>(transaction.objectStore("owner").get(FENCE));
    if (fence === this.fence) return;
    transaction.abort();
    throw new Error("another client has opened it since");
  }
}

/** One file's pages on their way in. */
class Load {
  private readonly path: string;
  private readonly bytes: Uint8Array;
  private missing: number;

  constructor(path: string, size: number) {
    this.path = path;
    this.bytes = new Uint8Array(size);
    this.missing = countOf(size);
  }

  place({ number, bytes }: StoredPage): void {
    this.bytes.set(bytes, number * PAGE_BYTES);
    this.missing--;
  }

  whole(): Uint8Array {
    if (this.missing === 0) return this.bytes;
    throw new Error(`read ${this.path} from IndexedDB: expected all of its pages, found ${this.missing} missing`);
  }
}

/** The requests of one transaction: they are done in this order, and one that fails undoes them all. */
class Writing {
  private readonly stores: { readonly files: IDBObjectStore; readonly pages: IDBObjectStore };
  private readonly files: Files;
  private readonly sizes: Map<string, number>;

  constructor(transaction: IDBTransaction, files: Files, sizes: Map<string, number>) {
    this.stores = { files: transaction.objectStore("files"), pages: transaction.objectStore("pages") };
    this.files = files;
    this.sizes = sizes;
  }

  directory(path: string): void {
    this.stores.files.put({ path, size: undefined } satisfies StoredFile);
  }

  /** With everything in it. */
  remove(path: string): void {
    // "0" is what comes after "/".
    this.stores.files.delete(path);
    this.stores.files.delete(IDBKeyRange.bound(`${path}/`, `${path}0`));
    this.stores.pages.delete(pagesFrom(path, 0));
    this.stores.pages.delete(IDBKeyRange.bound([`${path}/`], [`${path}0`]));
    for (const name of this.sizes.keys()) if (name === path || name.startsWith(`${path}/`)) this.sizes.delete(name);
  }

  file({ path, size, full, chunks }: FileWrite): void {
    const before = this.sizes.get(path) ?? 0;
    const changed = new Set(chunks.flatMap(({ at, data }) => between(at, at + data.length)));
    // Where the size is another one, so are the page that was the last, the one that is, and all between them.
    if (size !== before) for (const number of between(Math.min(before, size) - 1, size)) changed.add(number);
    if (full) for (const number of between(0, size)) changed.add(number);
    if (size < before) this.stores.pages.delete(pagesFrom(path, countOf(size)));
    if (size !== before || full) this.stores.files.put({ path, size } satisfies StoredFile);
    for (const number of changed) this.page(path, number, size);
    this.sizes.set(path, size);
  }

  private page(path: string, number: number, size: number): void {
    const at = number * PAGE_BYTES;
    if (at >= size) return;
    const bytes = this.files.read(path, at, Math.min(PAGE_BYTES, size - at));
    this.stores.pages.put({ path, number, bytes } satisfies StoredPage);
  }
}

async function* pagesOf(transaction: IDBTransaction): AsyncGenerator<StoredPage> {
  const store = transaction.objectStore("pages");
  let found = await result<StoredPage[]>(store.getAll(null, PAGES_AT_ONCE));
  while (found.length > 0) {
    const { path, number } = found.at(-1)!;
    const next = result<StoredPage[]>(store.getAll(IDBKeyRange.lowerBound([path, number], true), PAGES_AT_ONCE));
    yield* found;
    found = await next;
  }
}

function pagesFrom(path: string, number: number): IDBKeyRange {
  return IDBKeyRange.bound([path, number], [path, Infinity]);
}

function countOf(size: number): number {
  return Math.ceil(size / PAGE_BYTES);
}

/** The numbers of the pages that hold these bytes. */
function between(start: number, end: number): number[] {
  const first = Math.floor(Math.max(0, start) / PAGE_BYTES);
  return Array.from({ length: Math.max(0, countOf(end) - first) }, (_, i) => first + i);
}

function wholeFile(path: string, size: number): FileWrite {
  return { path, size, full: true, truncate: true, chunks: [] };
}
