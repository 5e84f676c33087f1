/**
 * `@walcast/client/inspector`: a panel at the bottom of a page that shows what `client.inspect()` says, as it changes.
 *
 *     import { mountInspector } from "@walcast/client/inspector";
 *     mountInspector(client);
 *
 * Ctrl+Alt+W opens and closes it, and `?inspect` in the page's address opens it from the start. It is an element like
 * any other, `<walcast-inspector>`, without a framework; nothing of it is in the client's own bundle.
 */
import { type Inspectable, WalcastInspector } from "./inspector/panel.ts";

export { type Inspectable, WalcastInspector } from "./inspector/panel.ts";

const tag = "walcast-inspector";

/** Makes `<walcast-inspector>` known to the page; it shows the client that its property `client` is set to. */
export function defineInspector(): void {
  if (!customElements.get(tag)) customElements.define(tag, WalcastInspector);
}

/** Adds one to the page, closed where `?inspect` does not ask for it. `remove()` takes it away again. */
export function mountInspector(client: Inspectable): WalcastInspector {
  defineInspector();
  const inspector = document.createElement(tag) as WalcastInspector;
  inspector.client = client;
  inspector.open = new URLSearchParams(location.search).has("inspect");
  document.body.append(inspector);
  return inspector;
}
