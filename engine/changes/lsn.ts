/**
 * Positions in the write-ahead log. An Lsn is a 64-bit unsigned byte offset; its text form is pg_lsn's, "16/B374D848".
 * The only stream position in Walcast is a *commit-end* Lsn: the first byte after a transaction's commit record.
 * https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */
export { formatLsn, parseLsn, type Lsn } from "../protocol.ts";
