/** The page of seed.browser.pg.test.ts: takes over what the server rendered. */
import { createElement, type ReactNode } from "react";
import { hydrateRoot } from "react-dom/client";
import { createClient, type Seed } from "../../../client-sdk/index.ts";
import { useLiveQuery, WalcastProvider } from "../../../client-sdk/bindings/react.ts";
import { List, type Order, Page, shapes } from "./view.ts";

const text = document.querySelector("#seed")!.textContent;
// As text it is what the server wrote.
const seed = Object.defineProperty(JSON.parse(text) as Seed, "toString", { value: () => text });
const client = createClient({ url: location.origin, shapes, seed });
Object.assign(globalThis, { client });

function Orders({ first }: { first: readonly Order[] }): ReactNode {
  const live = useLiveQuery<Order>("select id, status from orders order by id");
  return createElement(List, { orders: live.status === "ready" ? live.rows : first });
}

const orders = (first: readonly Order[]): ReactNode => createElement(Orders, { first });
const page = createElement(Page, { seed: Promise.resolve(seed), orders });
hydrateRoot(document.querySelector("main")!, createElement(WalcastProvider, { client }, page), {
  onRecoverableError: (error) => console.error(error),
});
