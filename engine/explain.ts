/** One sentence for a person, with the mend, out of whatever was rejected or thrown. */
import { DatabaseError } from "pg";
import { WalcastError } from "./errors.ts";

/** For a terminal. What was not foreseen comes with its stack, since whoever mends it needs to know where it came from. */
export function explain(error: unknown): string {
  const foreseen = error instanceof WalcastError || error instanceof DatabaseError || !(error instanceof Error);
  return foreseen ? reasonOf(error) : (error.stack ?? error.message);
}

/** For `/health` and the log. */
export function reasonOf(error: unknown): string {
  const mend = mendOf(error);
  return oneLine(mend === undefined ? messageOf(error) : `${messageOf(error)}; ${mend}`);
}

/** Nothing is wrong with the configuration: it passes by itself, or with another engine's end. */
export function mayPass(error: unknown): boolean {
  return causes(error).some(
    (cause) =>
      (cause instanceof WalcastError && cause.code === "not_streaming") ||
      passing.has((cause as DatabaseError).code ?? ""),
  );
}

/** The disk did not take what was to be put onto it. */
export function diskRefused(doing: string, cause: unknown): WalcastError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const hint = code === "ENOSPC" ? "make room on the disk that holds dataDir" : undefined;
  return new WalcastError("log_failed", `${doing}: ${message}; it is tried again`, { cause, hint });
}

const objectInUse = "55006";
const tooManyConnections = "53300";
const cannotConnectNow = "57P03";
const passing: ReadonlySet<string> = new Set([objectInUse, tooManyConnections, cannotConnectNow]);

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const mends: Readonly<Record<string, string>> = {
  "42501":
    "give the role its rights: ALTER ROLE … REPLICATION; GRANT CREATE ON DATABASE … TO …; and ownership of the tables it shall publish (walcast doctor lists what is missing)",
  "28000": "allow the role in pg_hba.conf, for replication connections too",
  [tooManyConnections]: "waiting for a free connection: raise max_connections, or use fewer elsewhere",
  [objectInUse]: "waiting for it to end; give this engine a slot of its own if it is to stay",
};

function mendOf(error: unknown): string | undefined {
  for (const cause of causes(error)) {
    const mend = cause instanceof DatabaseError ? mends[cause.code ?? ""] : undefined;
    if (mend !== undefined) return mend;
  }
  return error instanceof WalcastError ? error.hint : undefined;
}

function causes(error: unknown): Error[] {
  const found: Error[] = [];
  for (let next = error; next instanceof Error && found.length < 10; next = next.cause) found.push(next);
  return found;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
