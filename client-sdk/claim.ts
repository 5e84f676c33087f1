/**
 * A replica's place, taken for one client: at once, so that whoever creates a second one for it hears so at once. What is
 * done with it comes later (see instance.ts).
 */
import type { PGlite } from "@electric-sql/pglite";
import { type Seed, WalcastError } from "../engine/protocol.ts";
import { Directory } from "./directory.ts";
import { checkPlace, parsePlace, type Place } from "./storage/place.ts";

export type Claim =
  | { readonly kind: "given"; readonly pglite: PGlite }
  | { readonly kind: "directory"; readonly directory: Directory }
  | Exclude<Place, { kind: "directory" }>;

const inUse = new WeakSet<PGlite>();

/** Throws `config_invalid`. */
export function claim(replica: string | PGlite = "memory://"): Claim {
  if (typeof replica === "object") return claimGiven(replica);
  const place = parsePlace(replica);
  checkPlace(place);
  return place.kind === "directory" ? { kind: "directory", directory: new Directory(place.path) } : place;
}

export function release(claimed: Claim): void {
  if (claimed.kind === "given") inUse.delete(claimed.pglite);
  if (claimed.kind === "directory") claimed.directory.release();
}

/** Neither an earlier process nor the page has left anything in it. */
export function isBlank({ kind }: Claim, seed: Seed | undefined): boolean {
  return kind === "memory" && seed === undefined;
}

function claimGiven(pglite: PGlite): Claim {
  if (inUse.has(pglite))
    throw new WalcastError(
      "config_invalid",
      "open a replica: expected a PGlite of its own, found one that another client uses",
    );
  inUse.add(pglite);
  return { kind: "given", pglite };
}
