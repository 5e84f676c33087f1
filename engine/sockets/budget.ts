/** What all conditions of one connection may take together: memory by their texts, and of each change's time by what they compare. */
import { type ShapeRequest, WalcastError } from "../protocol.ts";
import type { Limits } from "../limits.ts";
import { comparisonsFor } from "../shapes/index/comparisons.ts";
import { isLong, lengthOf } from "../shapes/long.ts";
import type { Shape } from "../shapes/shape.ts";

interface Use {
  readonly bytes: number;
  readonly comparisons: number;
}

export class Budget {
  private readonly limits: Pick<Limits, "whereBytesPerConnection" | "comparisonsPerConnection">;
  /** By subscription. */
  private readonly uses = new Map<number, Use>();

  constructor(limits: Budget["limits"]) {
    this.limits = limits;
  }

  /** What a subscription asks for, in place of what it has asked for so far. Throws `too_many` where there is no room for it. */
  take(id: number, { where = "", params = [] }: ShapeRequest, shape: Shape): void {
    const bytes = isLong(where, params) ? lengthOf([where, params]) : 0;
    const use = { bytes, comparisons: comparisonsFor(shape.node) };
    const { whereBytesPerConnection: bytesMax, comparisonsPerConnection: comparisonsMax } = this.limits;
    if (this.sum("bytes", id) + use.bytes > bytesMax) throw tooMany(bytesMax, "bytes", "whereBytesPerConnection");
    if (this.sum("comparisons", id) + use.comparisons > comparisonsMax)
      throw tooMany(comparisonsMax, "comparisons", "comparisonsPerConnection");
    this.uses.set(id, use);
  }

  release(id: number): void {
    this.uses.delete(id);
  }

  private sum(what: keyof Use, except: number): number {
    let sum = 0;
    for (const [id, use] of this.uses) if (id !== except) sum += use[what];
    return sum;
  }
}

function tooMany(max: number, what: string, limit: string): WalcastError {
  return new WalcastError("too_many", `subscribe: expected at most ${max} ${what} in all conditions of a connection`, {
    hint: `unsubscribe from some, or raise limits.${limit}`,
  });
}
