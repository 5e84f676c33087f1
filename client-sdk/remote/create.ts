/** A client whose replica is shared by all tabs, in a worker of one of them. */
import type { Client, ClientOptions } from "../index.ts";
import { createWorker } from "./create-worker.ts";
import { GuestClient } from "./guest.ts";
import type { StoreOptions } from "./meeting-place.ts";
import { Tab } from "./tab.ts";

/** Throws `config_invalid`. */
export function createGuest<DB, Name extends string>(
  options: ClientOptions<Name> & { readonly replica: string },
): Client<DB, Name> {
  const { token: _token, shapes: _shapes, worker = createWorker, ...store } = options;
  return new GuestClient<DB, Name>(options, new Tab(store satisfies StoreOptions, worker));
}
