/** Microseconds since 2000-01-01, as Postgres keeps time, and since 1970-01-01. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

export function dateOf(commitTime: bigint): Date {
  return new Date(Number((commitTime + POSTGRES_EPOCH_US) / 1000n));
}
