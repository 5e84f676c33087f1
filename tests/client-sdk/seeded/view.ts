/** What the server renders as the seed arrives, and the page then goes on with. */
import { createElement, Fragment, type ReactNode, Suspense, use } from "react";
import { rowsOfSeed, type Seed } from "../../../client-sdk/index.ts";

export interface Order {
  readonly id: number;
  readonly status: string;
}

export const shapes = { orders: { table: "orders" } };

export function Page({
  seed,
  orders,
}: {
  seed: Promise<Seed>;
  orders: (first: readonly Order[]) => ReactNode;
}): ReactNode {
  return createElement(
    Suspense,
    { fallback: createElement("p", null, "wait") },
    createElement(Seeded, { seed, orders }),
  );
}

function Seeded({ seed: promise, orders }: Parameters<typeof Page>[0]): ReactNode {
  const seed = use(promise);
  const script = { type: "application/json", id: "seed", dangerouslySetInnerHTML: { __html: String(seed) } };
  const first = rowsOfSeed<Order>(seed, "orders").toSorted((a, b) => a.id - b.id);
  return createElement(Fragment, null, createElement("script", script), orders(first));
}

export function List({ orders }: { orders: readonly Order[] }): ReactNode {
  return createElement(
    "ul",
    null,
    orders.map(({ id, status }) => createElement("li", { key: id }, `${id} ${status}`)),
  );
}
