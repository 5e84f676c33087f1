/** One sentence for a person, with the mend, out of whatever a command rejected with. */
import { DatabaseError } from "pg";
import { WalcastError } from "../errors.ts";

export function explain(error: unknown): string {
  const denied = causes(error).find((cause) => cause instanceof DatabaseError && cause.code === insufficientPrivilege);
  if (denied) return oneLine(`${messageOf(error)}; ${rightsMend}`);
  if (error instanceof WalcastError)
    return oneLine(error.hint === undefined ? error.message : `${error.message}; ${error.hint}`);
  // Not foreseen, so not worded: whoever mends it needs to know where it came from.
  return error instanceof Error && !(error instanceof DatabaseError)
    ? (error.stack ?? error.message)
    : oneLine(messageOf(error));
}

const insufficientPrivilege = "42501";
const rightsMend =
  "give the role its rights: ALTER ROLE … REPLICATION; GRANT CREATE ON DATABASE … TO …; and ownership of the tables it shall publish (walcast doctor lists what is missing)";

function causes(error: unknown): unknown[] {
  const found: unknown[] = [];
  for (let next = error; next instanceof Error && found.length < 10; next = next.cause) found.push(next);
  return found;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
