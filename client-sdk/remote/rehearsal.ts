/**
 * What opening a replica takes for the first time in a worker, done ahead by the one that is to take over next: PGlite is
 * fetched and compiled, and its functions as they are first called. An empty replica in memory is opened and closed; what
 * it leaves behind is the compiled program, from which the real one starts.
 */
import { claim } from "../claim.ts";
import { Database } from "../database.ts";
import { Replica } from "../replica.ts";

export async function rehearse(): Promise<void> {
  const database = new Database(claim("memory://"));
  await database.open();
  await database.exclusive(() => new Replica(database));
  await database.select("SELECT relname FROM pg_class ORDER BY relname LIMIT 1", []);
  await database.close();
}
