/**
 * Which transactions a snapshot sees: `pg_current_snapshot()`, "xmin:xmax:xip,…", all xids 64 bits wide. Subtransactions
 * are not in it, and pgoutput names a transaction by its top-level xid, so the two agree.
 * https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
 */
import { WalcastError } from "../errors.ts";

export interface PgSnapshot {
  readonly xmin: bigint;
  readonly xmax: bigint;
  readonly xip: ReadonlySet<bigint>;
}

export function parsePgSnapshot(text: string): PgSnapshot {
  const parts = /^(\d+):(\d+):((?:\d+(?:,\d+)*)?)$/.exec(text);
  if (!parts)
    throw new WalcastError(
      "malformed_message",
      `read a snapshot: expected "xmin:xmax:xip,…", found ${JSON.stringify(text)}`,
    );
  const xip = parts[3] === "" ? [] : parts[3]!.split(",").map(BigInt);
  return { xmin: BigInt(parts[1]!), xmax: BigInt(parts[2]!), xip: new Set(xip) };
}

export function sees(snapshot: PgSnapshot, xid: bigint): boolean {
  if (xid < snapshot.xmin) return true;
  return xid < snapshot.xmax && !snapshot.xip.has(xid);
}

/** pgoutput's 32 bits, widened to the 64-bit xid nearest to one known to be recent. */
export function widenXid(xid: number, recent: bigint): bigint {
  const candidate = (recent & ~0xffffffffn) | BigInt(xid >>> 0);
  if (candidate > recent + 0x80000000n && candidate >= 0x100000000n) return candidate - 0x100000000n;
  if (candidate < recent - 0x80000000n) return candidate + 0x100000000n;
  return candidate;
}
