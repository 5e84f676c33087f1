/**
 * Simulated traffic: about ten small transactions a second, such as a shop's systems make them. Orders come in, move
 * on, are cancelled. It stops by itself, because a page left open should not fill a disk over the weekend.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pool } from "pg";
import { Random } from "./random.ts";

const meanGapMs = 100;
const longestRunMs = 10 * 60_000;
const retryMs = 1_000;

export class Traffic {
  private readonly pool: Pool;
  private readonly random = new Random(Date.now());
  private run = new AbortController();
  private ended: Promise<void> = Promise.resolve();

  constructor(pool: Pool) {
    this.pool = pool;
  }

  /** Again while it runs: ten more minutes from now. */
  async start(): Promise<void> {
    await this.halt();
    await this.show(true);
    this.run = new AbortController();
    this.ended = this.keepGoing(this.run.signal);
  }

  /** Resolves when no transaction is under way any more. */
  async stop(): Promise<void> {
    await this.halt();
    await this.show(false);
  }

  private async halt(): Promise<void> {
    this.run.abort();
    await this.ended;
  }

  private async keepGoing(halted: AbortSignal): Promise<void> {
    const over = AbortSignal.any([halted, AbortSignal.timeout(longestRunMs)]);
    while (await pause(this.random.wait(meanGapMs), over)) {
      // Postgres may be restarting. It is somebody else's business to say so.
      await this.transaction().catch(() => pause(retryMs, over));
    }
    if (!halted.aborted) await this.show(false).catch(() => undefined);
  }

  /** Each is one statement, so each is one transaction. */
  private async transaction(): Promise<void> {
    const kind = this.random.next();
    if (kind < 0.12) await this.pool.query(newOrder, [1 + this.random.skewed(4)]);
    else if (kind < 0.16) await this.pool.query(cancelOne);
    else if (kind < 0.24) await this.pool.query(shipThree);
    else await this.pool.query(moveOneOn);
  }

  /** For the switch in the pages, which reads this row like every other. */
  private async show(running: boolean): Promise<void> {
    await this.pool.query("UPDATE simulation SET running = $1 WHERE running <> $1", [running]);
  }
}

/** False once the signal says that it is over. */
function pause(ms: number, over: AbortSignal): Promise<boolean> {
  return sleep(ms, true, { signal: over }).catch(() => false);
}

const newOrder = `
  WITH basket AS MATERIALIZED (
    SELECT id, price, 1 + floor(random() * 2)::int AS quantity FROM products ORDER BY random() LIMIT $1
  ), new_order AS (
    INSERT INTO orders (customer_id, amount)
    SELECT (SELECT id FROM customers ORDER BY random() LIMIT 1), (SELECT sum(price * quantity) FROM basket)
    RETURNING id
  )
  INSERT INTO order_items (order_id, line, product_id, quantity, unit_price)
  SELECT new_order.id, row_number() OVER (), basket.id, quantity, price FROM new_order, basket`;

/** The newest orders are those that people are looking at. */
const recent = "SELECT id, status FROM orders ORDER BY id DESC LIMIT 120";

const moveOneOn = `
  UPDATE orders SET status = CASE status WHEN 'pending' THEN 'paid' WHEN 'paid' THEN 'packed' WHEN 'packed' THEN 'shipped' ELSE 'delivered' END
  WHERE id = (SELECT id FROM (${recent}) AS recent WHERE status NOT IN ('delivered', 'cancelled') ORDER BY random() LIMIT 1)`;

const cancelOne = `
  UPDATE orders SET status = 'cancelled'
  WHERE id = (SELECT id FROM (${recent}) AS recent WHERE status IN ('pending', 'paid') ORDER BY random() LIMIT 1)`;

/** Three parcels, one van: nobody may ever see two of them shipped and one not. */
const shipThree = `
  UPDATE orders SET status = 'shipped'
  WHERE id IN (SELECT id FROM (${recent}) AS recent WHERE status IN ('paid', 'packed') ORDER BY random() LIMIT 3)`;
