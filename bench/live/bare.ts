/** A bare PGlite with the orders and prepared statements: what the same work costs at the least. It makes no objects and compares nothing. */
import { PGlite } from "@electric-sql/pglite";
import { Messages } from "../../client-sdk/wire.ts";
import { execute, prepared } from "../pglite.ts";
import { copyLines, createTable, upsert } from "./orders.ts";

export class Bare {
  private readonly messages = new Messages();
  private readonly pglite: PGlite;

  private constructor(pglite: PGlite) {
    this.pglite = pglite;
  }

  static async open(rows: number): Promise<Bare> {
    const bare = new Bare(await PGlite.create("memory://", prepared()));
    await bare.pglite.exec(createTable);
    bare.messages.query("COPY orders FROM STDIN");
    for (const lines of copyLines(rows)) bare.messages.copyData(lines);
    execute(bare.pglite, bare.messages.copyDone().take());
    bare.prepare("upsert", upsert);
    return bare;
  }

  prepare(name: string, sql: string): void {
    execute(this.pglite, this.messages.parse(name, sql).sync().take());
  }

  /** Milliseconds of building messages and running them. */
  run(build: (messages: Messages) => void): number {
    const started = performance.now();
    build(this.messages);
    execute(this.pglite, this.messages.sync().take());
    return performance.now() - started;
  }

  close(): Promise<void> {
    return this.pglite.close();
  }
}
