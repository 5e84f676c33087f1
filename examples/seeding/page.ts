/** The page's script: goes on from the rows that came in the HTML, and asks for none of them again. */
import { type Client, createClient, type Seed } from "@walcast/client";
import { list, type Order, shapes } from "./view.ts";

/** Calls `draw` after every commit that changes something. What is drawn already stays until then. */
export async function goOn(seedText: string, url: string, draw: (html: string) => void): Promise<Client> {
  const client = createClient({ url, shapes, seed: JSON.parse(seedText) as Seed });
  const orders = client.live<Order>("select id, status from orders order by id");
  await orders.ready;
  orders.subscribe((rows) => draw(list(rows)));
  draw(list(orders.rows));
  return client;
}

if (typeof document !== "undefined") {
  const url = location.origin.replace(/^http/, "ws");
  void goOn(document.querySelector("#seed")!.textContent, url, (html) => {
    document.querySelector("ul")!.innerHTML = html;
  });
}
