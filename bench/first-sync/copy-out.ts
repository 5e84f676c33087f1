/** What Postgres gives out by itself: the rows of a table as COPY text. */
import pg from "pg";

/** Straight from the connection: what a stream would make of it is not Postgres' work. */
export async function copyOut(url: string, table: string): Promise<{ ms: number; lines: Buffer }> {
  const client = new pg.Client({ connectionString: url, options: "-c timezone=UTC" });
  await client.connect();
  const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
  const chunks: Buffer[] = [];
  connection.on("copyData", ({ chunk }: { chunk: Buffer }) => chunks.push(Buffer.from(chunk)));
  const started = performance.now();
  await client.query(`copy ${table} to stdout`);
  const ms = performance.now() - started;
  await client.end();
  return { ms, lines: Buffer.concat(chunks) };
}
