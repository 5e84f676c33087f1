/**
 * Where the pages and workers of one store find each other: names of locks and channels, and what is said there.
 *
 *     page ─start─▶ its worker ─asks for the lock─▶ … has it: hosting ─▶ page: talks to its own worker through a port
 *                                                  └─ "owner" on the common channel ─▶ other pages: "join", and a channel of two
 *
 * The lock goes to the next worker when its owner closes or crashes. All others wait for being the next. https://w3c.github.io/web-locks/
 */
import type { ErrorJson } from "../../engine/protocol.ts";
import type { ClientOptions } from "../index.ts";

/** What a worker makes its core of. */
export type StoreOptions = Omit<ClientOptions, "token" | "shapes" | "replica" | "worker"> & {
  readonly replica: string;
};

export type ToWorker =
  /** First of all; the port is the page's own, for when this worker is the host. */
  | { readonly kind: "start"; readonly worker: string; readonly options: StoreOptions; readonly port: MessagePort }
  /** Whose token its page has. */
  | { readonly kind: "identity"; readonly identity: string }
  /** That owner says nothing any more, nor does its page. */
  | { readonly kind: "rob"; readonly owner: string }
  /** Its page is hidden, and may never be seen again: what is shown is to be stored. */
  | { readonly kind: "flush" }
  /** Its page is about to be frozen: others can go on. */
  | { readonly kind: "release" }
  | { readonly kind: "close" };

export type FromWorker =
  /** It has the lock that says that it lives. */
  | { readonly kind: "begun" }
  | { readonly kind: "hosting" }
  /** It has lost the store, and has ended. Another one has to be made. */
  | { readonly kind: "ended" }
  /** It has no replica, and has ended. `isInUse`: as somebody still has the files who has lost the lock. */
  | { readonly kind: "failed"; readonly error: ErrorJson; readonly isInUse: boolean }
  | { readonly kind: "closed" };

/** On the common channel, from anyone to everyone. */
export type Announcement =
  /** Who has the store? */
  | { readonly kind: "who" }
  | { readonly kind: "owner"; readonly owner: string }
  /** A page wants to be the owner's guest, and listens to a channel of its own name. */
  | { readonly kind: "join"; readonly owner: string; readonly guest: string; readonly identity: string }
  /** That owner has the token of another user now: whom it refused may ask again. */
  | { readonly kind: "changed"; readonly owner: string }
  /** Is that owner's page running? */
  | { readonly kind: "alive?"; readonly owner: string }
  | { readonly kind: "alive"; readonly owner: string };

export function namesOf(store: string) {
  const base = `walcast/${store}`;
  return {
    lock: base,
    /** Whoever has it is the one that waits for the store's. */
    next: `${base}/next`,
    robbing: `${base}/robbing`,
    common: base,
    /** A lock that a worker has as long as it lives. */
    worker: (worker: string): string => `${base}/worker/${worker}`,
    /** A lock that a page has as long as it lives, and the channel that it shares with its host. */
    guest: (guest: string): string => `${base}/guest/${guest}`,
  };
}

/** The same for all tokens of one user of one server, and nothing that the token could be guessed from. */
export async function identityOf(url: string, who: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify([new URL(url).href, who]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
