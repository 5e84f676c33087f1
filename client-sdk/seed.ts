/** First rows that came with the page: put into an empty replica, as if an earlier process had left them. */
import { parseLsn, type Seed, type SeedShape, zeroLsn } from "../engine/protocol.ts";
import type { Join } from "./joins.ts";
import { Replica } from "./replica.ts";
import { requestKey } from "./table-name.ts";

/** Inside a turn. A replica that has a position of its own keeps that, and what is missing since then is sent. */
export function seeded(replica: Replica, seed: Seed | undefined, owner: string | undefined): Replica {
  if (!seed || replica.reached !== zeroLsn) return replica;
  replica.enterEpoch(seed.epoch, "everything");
  const joins = Object.values<SeedShape>(seed.shapes).map((shape) => load(replica, shape));
  replica.commit([], joins, parseLsn(seed.position));
  return new Replica(replica.database, owner);
}

function load(replica: Replica, { request, table, rows }: SeedShape): Join {
  const member = {
    number: undefined,
    access: undefined,
    request: requestKey(request),
    isOver: false,
    indexes: [],
  };
  const load = replica.describe(member, table);
  replica.copy(load, [new TextEncoder().encode(rows.map(copyLine).join(""))]);
  return { load, portions: [] };
}

/** https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS */
function copyLine(row: readonly (string | null)[]): string {
  return `${row.map((value) => (value === null ? "\\N" : value.replace(/[\\\n\r\t]/g, (sign) => escapes[sign]!))).join("\t")}\n`;
}

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
