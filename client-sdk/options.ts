/** What a client can be told that cannot work is refused at once. */
import { WalcastError } from "../engine/protocol.ts";
import { syncUrl } from "./edge.ts";
import type { ClientOptions } from "./index.ts";
import { parsePlace } from "./storage/place.ts";
import { parseTableName } from "./table-name.ts";

/** Throws `config_invalid`. */
export function checkOptions({ url, replica, shapes = {} }: ClientOptions): void {
  if (!URL.canParse(url))
    throw new WalcastError(
      "config_invalid",
      `create a client: expected a URL like ws://localhost:4437, found ${JSON.stringify(url)}`,
    );
  syncUrl(url);
  for (const { table } of Object.values(shapes)) parseTableName(table);
  if (typeof replica === "string") parsePlace(replica);
  if (typeof replica === "object" && typeof replica.execProtocolRawStream !== "function") {
    throw new WalcastError(
      "config_invalid",
      "create a client: expected a PGlite of this thread as replica, found something without its raw protocol",
    );
  }
}
