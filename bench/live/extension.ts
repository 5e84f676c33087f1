/** The orders in a PGlite with its own live queries. */
import { PGlite, type PGliteInterfaceExtensions } from "@electric-sql/pglite";
import { live } from "@electric-sql/pglite/live";
import { copyLines, createTable, order, upsert } from "./orders.ts";
import { prepared } from "../pglite.ts";

type LivePGlite = PGlite & PGliteInterfaceExtensions<{ live: typeof live }>;

export class Extension {
  readonly pglite: LivePGlite;
  private tell: (note: string) => void = () => undefined;

  private constructor(pglite: LivePGlite) {
    this.pglite = pglite;
  }

  static async open(rows: number): Promise<Extension> {
    const pglite = await PGlite.create("memory://", { ...prepared(), extensions: { live } });
    await pglite.exec(createTable);
    await pglite.query("COPY orders FROM '/dev/blob'", [], { blob: new Blob(copyLines(rows) as BlobPart[]) });
    return new Extension(pglite);
  }

  /** Its incremental ones, which find out by themselves what changed. */
  async watchAll(): Promise<void> {
    await this.pglite.live.incrementalQuery("SELECT * FROM orders", [], "id", (result) => this.see(result));
  }

  async watchNewest(queries: number, sql: string): Promise<void> {
    for (let i = 1; i <= queries; i++) await this.pglite.live.query(sql, [-i], (result) => this.see(result));
  }

  /** Milliseconds from writing an order until so many callbacks have shown it. */
  async put(id: number, note: string, callbacks: number): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let left = callbacks;
    this.tell = (seen) => void (seen === note && --left === 0 && resolve());
    const started = performance.now();
    await this.pglite.query(upsert, order(id, note));
    await promise;
    return performance.now() - started;
  }

  close(): Promise<void> {
    return this.pglite.close();
  }

  private see({ rows }: { rows: { id?: number; note?: string }[] }): void {
    const row = rows.find(({ id }) => id === 0);
    this.tell(row?.note ?? "");
  }
}
