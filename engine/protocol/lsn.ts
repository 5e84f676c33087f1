/** Positions in the write-ahead log. */
import { WalcastError } from "../errors.ts";

/**
 * A position in the write-ahead log: 64-bit unsigned. Its text form is pg_lsn's, "16/B374D848".
 * https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */
export type Lsn = bigint & { readonly [lsnBrand]: true };
declare const lsnBrand: unique symbol;

export const zeroLsn = 0n as Lsn;

/** "16/B374D848" → Lsn. Throws `malformed_message` on anything else. */
export function parseLsn(text: string): Lsn {
  const parts = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!parts)
    throw new WalcastError(
      "malformed_message",
      `read an LSN: expected a form like "16/B374D848", found ${JSON.stringify(text)}`,
    );
  return ((BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`)) as Lsn;
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** From the two halves as they stand on a wire. */
export function lsnFromHalves(high: number, low: number): Lsn {
  return ((BigInt(high) << 32n) | BigInt(low)) as Lsn;
}
