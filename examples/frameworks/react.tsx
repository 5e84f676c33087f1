import type { Client } from "@walcast/client";
import { useLiveQuery, useShape, WalcastProvider } from "@walcast/client/react";
import { createRoot } from "react-dom/client";
import { newest, type Order, text } from "./orders.ts";

export function mountReact(client: Client, target: HTMLElement): void {
  createRoot(target).render(
    <WalcastProvider client={client}>
      <Orders />
    </WalcastProvider>,
  );
}

function Orders() {
  const { rows } = useLiveQuery<Order>(newest, [5]);
  const { error } = useShape("orders");
  if (error) return <p>{error.message}</p>;
  return (
    <ul>
      {rows.map((order) => (
        <li key={order.id}>{text(order)}</li>
      ))}
    </ul>
  );
}
