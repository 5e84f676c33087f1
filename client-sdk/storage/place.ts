/** Where a replica is asked for: what comes before `://`, and the name behind it. */
import { WalcastError } from "../../engine/protocol.ts";

export type Place =
  | { readonly kind: "memory" }
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "idb" | "opfs-ahp"; readonly name: string };

/** Throws `config_invalid`. */
export function parsePlace(text: string): Place {
  const [, scheme, name = ""] = /^([a-z][a-z0-9+.-]+):\/\/(.*)$/is.exec(text) ?? [];
  if (scheme === "memory" || text.startsWith("memory:")) return { kind: "memory" };
  if (scheme === undefined) return { kind: "directory", path: text };
  if ((scheme === "idb" || scheme === "opfs-ahp") && /^[^/]+$/.test(name)) return { kind: scheme, name };
  throw new WalcastError(
    "config_invalid",
    `create a client: expected "memory://", "idb://name", "opfs-ahp://name", a directory or a PGlite as replica, found ${JSON.stringify(text)}`,
    { hint: "A name is one word without a slash." },
  );
}

/** Whether this platform has it. Throws `config_invalid`. */
export function checkPlace({ kind }: Place): void {
  const missing = kind === "idb" || kind === "opfs-ahp" ? missingFor(kind) : undefined;
  if (missing !== undefined)
    throw new WalcastError("config_invalid", `open a replica: expected ${missing}, found none`, {
      hint: "In Node a replica lasts in a directory.",
    });
}

function missingFor(kind: "idb" | "opfs-ahp"): string | undefined {
  if (typeof indexedDB === "undefined") return `a browser's storage for ${kind}://`;
  // Where a dedicated worker has no handles to files, there is still IndexedDB.
  const isInPage = typeof document !== "undefined";
  return kind === "opfs-ahp" && isInPage ? "a dedicated worker for opfs-ahp://" : undefined;
}
