/**
 * `@walcast/client/stored`: `createClient` for replicas in a browser's storage, and for no others. What applies changes and
 * answers queries is in their worker; a page that gets its client from here loads none of it.
 *
 *     import { createClient } from "@walcast/client/stored";
 *     const client = createClient({ url: "wss://example.com", replica: "opfs-ahp://shop", shapes });
 */
import type { AnyDatabase, Client, ClientOptions } from "./index.ts";
import { checkOptions } from "./options.ts";
import { createGuest } from "./remote/create.ts";

export { errorCodes, formatLsn, parseLsn, WalcastError } from "../engine/protocol.ts";

export interface StoredClientOptions<Name extends string = string> extends ClientOptions<Name> {
  readonly replica: `idb://${string}` | `opfs-ahp://${string}`;
}

/** As `createClient` of `@walcast/client` does it. Throws `config_invalid`. */
export function createClient<Database = AnyDatabase, Name extends string = string>(
  options: StoredClientOptions<Name>,
): Client<Database, Name> {
  checkOptions(options);
  return createGuest<Database, Name>(options);
}
