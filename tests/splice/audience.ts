/**
 * Everybody who watches the bank: clients that check the conserved totals in every state they show, and a final audit
 * that holds each of their shapes against the same question asked of Postgres, text for text.
 */
import assert from "node:assert/strict";
import type { Client } from "pg";
import type { Engine } from "../../engine/main.ts";
import { parseLsn, type ShapeRequest } from "../../engine/protocol.ts";
import { RawClient, type RawShape, type Row } from "../support/raw-client.ts";
import { complements, jointTotal, ledgerTotal, randomShape } from "./bank.ts";
import type { Random } from "./random.ts";

const watched = { sum: "balance", counter: "touches" };

/** Shapes of one client that together always hold this much. */
interface Conserved {
  readonly shapes: readonly RawShape[];
  readonly total: number;
}

export class Audience {
  readonly clients: RawClient[] = [];
  /** States in which at least one total was checked. */
  checked = 0;
  private readonly url: () => string;
  private readonly random: Random;
  private readonly conserved = new Map<RawClient, Conserved[]>();

  /** `url`: where the engine is now. */
  constructor(url: () => string, random: Random) {
    this.url = url;
    this.random = random;
  }

  get shapes(): RawShape[] {
    return this.clients.flatMap((client) => [...client.shapes.values()]).filter(({ status }) => status !== "over");
  }

  async join(): Promise<RawClient> {
    const client = await RawClient.connect(this.url());
    const conserved: Conserved[] = [];
    this.conserved.set(client, conserved);
    client.onShown = () => this.check(conserved);
    this.clients.push(client);
    return client;
  }

  /** A client that shows the whole ledger, and both halves of the rest. */
  async joinWithTotals(): Promise<{ client: RawClient; ledger: RawShape; accounts: RawShape; vault: RawShape }> {
    const client = await this.join();
    const ledger = this.subscribe(client, { table: "ledger" });
    const accounts = this.subscribe(client, { table: "accounts" });
    const vault = this.subscribe(client, { table: "vault" });
    this.expect(client, [ledger], ledgerTotal);
    this.expect(client, [accounts, vault], jointTotal);
    return { client, ledger, accounts, vault };
  }

  subscribe(client: RawClient, request: ShapeRequest): RawShape {
    return client.subscribe(request, watched);
  }

  /** Anything at all, of one to three shapes. */
  subscribeAtRandom(client: RawClient): RawShape[] {
    if (this.random.chance(0.3)) return this.subscribeToHalves(client);
    return [this.subscribe(client, randomShape(this.random))];
  }

  /** The ledger in two shapes. They come at their own pace, but once both are there no money is missing between them. */
  subscribeToHalves(client: RawClient): RawShape[] {
    const shapes = complements("ledger", this.random).map((request) => this.subscribe(client, request));
    this.expect(client, shapes, ledgerTotal);
    return shapes;
  }

  /** Its wire is cut. */
  async drop(client: RawClient): Promise<void> {
    this.clients.splice(this.clients.indexOf(client), 1);
    await client.drop();
    if (client.failure !== undefined) throw client.failure;
  }

  async dropAll(): Promise<void> {
    for (const client of [...this.clients]) await this.drop(client);
  }

  /** With nobody writing: every shape of every client shows what Postgres answers, and sums up to what the engine finds. */
  async audit(db: Client, engine?: Engine): Promise<void> {
    const { rows } = await db.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    for (const client of this.clients) {
      for (const shape of client.shapes.values()) if (shape.status !== "over") await shape.ready();
      await client.reach(parseLsn(rows[0]!.lsn));
    }
    for (const shape of this.shapes) await auditShape(db, shape);
    if (engine) await this.answerAudits(engine);
  }

  private async answerAudits(engine: Engine): Promise<void> {
    const before = new Map(this.shapes.map((shape) => [shape, shape.audits]));
    await engine.audit();
    for (const [shape, audits] of before) await shape.client.until(() => shape.audits > audits, "an audit");
  }

  private expect(client: RawClient, shapes: readonly RawShape[], total: number): void {
    this.conserved.get(client)!.push({ shapes, total });
  }

  private check(conserved: readonly Conserved[]): void {
    for (const { shapes, total } of conserved) {
      if (!isConsistent(shapes)) continue;
      const found = shapes.reduce((sum, shape) => sum + shape.total, 0);
      assert.equal(
        found,
        total,
        `the total of ${shapes.map(({ request, status }) => `${request.table} ${request.where ?? ""} (${status})`).join(" and ")}`,
      );
      this.checked++;
    }
  }
}

/** Rows that stay while their shape is fetched anew are of one moment too; two such shapes need not be of the same. */
function isConsistent(shapes: readonly RawShape[]): boolean {
  return shapes.every((shape) => shape.isReady || (shapes.length === 1 && shape.joins > 0));
}

async function auditShape(db: Client, shape: RawShape): Promise<void> {
  const columns = shape.table!.columns.map(({ name }) => name);
  const { rows } = await db.query<(string | null)[]>({
    text: `select ${columns.join(", ")} from ${shape.request.table} where ${shape.request.where ?? "true"}`,
    values: [...(shape.request.params ?? [])],
    rowMode: "array",
    types: { getTypeParser: () => (text: string) => text },
  });
  assert.deepEqual(
    sorted(shape.rows.values()),
    sorted(rows),
    `${shape.request.table} where ${shape.request.where} ${JSON.stringify(shape.request.params)}`,
  );
}

function sorted(rows: Iterable<Row>): string[] {
  return [...rows].map((row) => JSON.stringify(row)).sort();
}
