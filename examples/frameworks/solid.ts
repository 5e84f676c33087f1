import type { Client } from "@walcast/client";
import { useLiveQuery, useShape, WalcastProvider } from "@walcast/client/solid";
import { createComponent, type JSX } from "solid-js";
import html from "solid-js/html";
import { render } from "solid-js/web";
import { newest, type Order, text } from "./orders.ts";

export function mountSolid(client: Client, target: HTMLElement): void {
  const app = (): JSX.Element =>
    createComponent(WalcastProvider, {
      client,
      get children() {
        return createComponent(Orders, {});
      },
    });
  render(app, target);
}

/** Tagged templates instead of JSX, so that nothing has to compile them. */
function Orders(): JSX.Element {
  const orders = useLiveQuery<Order>(newest, () => [5]);
  const shape = useShape(() => "orders");
  const list = (): JSX.Element =>
    html`<ul>
      ${() => orders().rows.map((order) => html`<li>${text(order)}</li>`)}
    </ul>`;
  return (() =>
    shape().error ? (html`<p>${shape().error!.message}</p>` as JSX.Element) : list()) as unknown as JSX.Element;
}
