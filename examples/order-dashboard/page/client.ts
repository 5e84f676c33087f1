/**
 * The page's replica: the shop's tables, whole, in a Postgres inside this browser. Everything the page shows is a
 * query on it; nothing here fetches rows, polls, or handles a change.
 */
import { createClient } from "@walcast/client";
import type { Status } from "../statuses.ts";

export interface Shop {
  customers: { id: number; name: string; email: string; city: string; country: string };
  products: { id: number; name: string; category: string; price: string };
  orders: { id: number; customer_id: number; status: Status; amount: string; created_at: Date };
  order_items: { order_id: number; line: number; product_id: number; quantity: number; unit_price: string };
  simulation: { id: number; running: boolean };
}

export const tables = ["customers", "products", "orders", "order_items", "simulation"] as const;

export const client = createClient<Shop>({
  url: location.origin.replace(/^http/, "ws"),
  shapes: {
    customers: { table: "customers" },
    products: { table: "products" },
    // For the chart, which reads the newest hour or two days of them.
    orders: { table: "orders", indexes: ["created_at"] },
    order_items: { table: "order_items" },
    simulation: { table: "simulation" },
  },
});
