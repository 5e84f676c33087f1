/** Plans by query: those of one form, with whatever parameters, share theirs. */
import type { Database } from "../database.ts";
import type { Statement } from "../statements.ts";
import { type NoPlan, type Plan, planOf } from "./plan.ts";
import type { KeyedTable } from "./tables-read.ts";

// Applications have dozens of queries, not thousands.
const PLANS_MAX = 256;

export class Plans {
  private readonly plans = new Map<string, Plan | NoPlan>();

  /** Inside a transaction, which may be of no use any more afterwards. */
  of(database: Database, statement: Statement, tables: readonly KeyedTable[]): Plan | NoPlan {
    const key = JSON.stringify([statement.sql, statement.columns, tables]);
    const known = this.plans.get(key);
    if (known) return known;
    if (this.plans.size >= PLANS_MAX) this.plans.clear();
    const plan = planOf(database, statement, tables);
    this.plans.set(key, plan);
    return plan;
  }
}
