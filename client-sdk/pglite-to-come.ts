/**
 * `client.pglite` before PGlite's code is there: its methods have the replica opened, and wait for that. Afterwards it is the
 * PGlite, for who has kept it.
 */
import type { PGlite } from "@electric-sql/pglite";

export function pgliteToCome(open: () => Promise<PGlite>, now: () => PGlite | undefined): PGlite {
  const ofNow = (pglite: PGlite, name: string): unknown => {
    const value: unknown = Reflect.get(pglite, name);
    return typeof value === "function" ? (value.bind(pglite) as unknown) : value;
  };
  return new Proxy({} as PGlite, {
    get(_, name) {
      // What asks every object these means no PGlite.
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      const pglite = now();
      if (pglite) return ofNow(pglite, name);
      if (name === "waitReady") return open().then((found) => found.waitReady);
      if (name === "ready" || name === "closed") return false;
      return async (...args: readonly unknown[]): Promise<unknown> => {
        const method = ofNow(await open(), name) as (...given: readonly unknown[]) => unknown;
        return method(...args);
      };
    },
  });
}
