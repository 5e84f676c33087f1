/**
 * `@walcast/client/tanstack-query`: queries that ask again when what they show was revalidated.
 *
 *     bindQueryClient(queryClient, client);
 *     useQuery({ queryKey: ["posts", "list", { page: 1 }], queryFn });
 *
 * A key's parts are divided by dots: `posts` means every query whose key begins with "posts", `posts.list` those that go on with
 * "list". What else a query stands for it says itself: `meta: { revalidate: ["table:public.posts"] }`.
 */
import type { Query, QueryClient } from "@tanstack/query-core";
import type { Client } from "../index.ts";

/**
 * From now on, queries that match a revalidated key are invalidated: those that are mounted ask again at once, others when they
 * are mounted next. Returns what ends it.
 */
export function bindQueryClient(
  queryClient: Pick<QueryClient, "getQueryCache" | "invalidateQueries">,
  client: Pick<Client, "onRevalidate">,
): () => void {
  const cache = queryClient.getQueryCache();
  const counts = new Map<string, number>();
  const stops = new Map<string, () => void>();
  const keysOf = new Map<string, readonly string[]>();

  let due: Set<string> | undefined;

  /** All keys of a commit at once: a query that several of them mean asks once. */
  function revalidate(keys: readonly string[]): void {
    if (due) return keys.forEach((key) => due!.add(key));
    due = new Set(keys);
    queueMicrotask(() => {
      const named = due!;
      due = undefined;
      void queryClient.invalidateQueries({
        predicate: (query) => revalidationKeys(query).some((key) => named.has(key)),
        refetchType: "active",
      });
    });
  }

  function add(query: Query): void {
    if (keysOf.has(query.queryHash)) return;
    const keys = revalidationKeys(query);
    keysOf.set(query.queryHash, keys);
    for (const key of keys) {
      counts.set(key, (counts.get(key) ?? 0) + 1);
      if (!stops.has(key))
        stops.set(
          key,
          client.onRevalidate([key], (revalidated) => revalidate(revalidated.keys)),
        );
    }
  }

  function remove({ queryHash }: Query): void {
    for (const key of keysOf.get(queryHash) ?? []) {
      const left = counts.get(key)! - 1;
      counts.set(key, left);
      if (left > 0) continue;
      counts.delete(key);
      stops.get(key)?.();
      stops.delete(key);
    }
    keysOf.delete(queryHash);
  }

  for (const query of cache.getAll()) add(query);
  const stop = cache.subscribe(({ type, query }) => {
    if (type === "removed") remove(query);
    // What it means may be said only by whoever mounts it.
    else if (type === "added" || type === "observerOptionsUpdated") renew(query);
  });

  function renew(query: Query): void {
    if (keysOf.get(query.queryHash)?.join("\n") === revalidationKeys(query).join("\n")) return;
    remove(query);
    add(query);
  }

  return () => {
    stop();
    for (const end of stops.values()) end();
    stops.clear();
  };
}

/** Every key that a query stands for, from the widest to its own, and those of its `meta`. */
export function revalidationKeys({ queryKey, meta }: Pick<Query, "queryKey" | "meta">): string[] {
  const keys: string[] = [];
  for (const part of queryKey) {
    if (typeof part !== "string" && typeof part !== "number") break;
    keys.push(keys.length === 0 ? String(part) : `${keys.at(-1)}.${part}`);
  }
  const named = meta?.["revalidate"];
  if (Array.isArray(named)) keys.push(...named.filter((key) => typeof key === "string"));
  return [...new Set(keys)].filter((key) => key !== "");
}
