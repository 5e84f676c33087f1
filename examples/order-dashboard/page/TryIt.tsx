/** One UPDATE to run anywhere, for whoever wants to see that nothing but Postgres moves the rows. */
import { useLiveQuery } from "@walcast/client/react";
import { useState } from "react";
import type { Status } from "../statuses.ts";

const newest = "SELECT id, status FROM orders ORDER BY id DESC LIMIT 1";
const copiedMs = 2_000;

export function TryIt() {
  const { rows } = useLiveQuery<{ id: number; status: Status }>(newest);
  const [isCopied, setCopied] = useState(false);
  const order = rows[0];
  if (!order) return null;
  const update = `UPDATE orders SET status = '${order.status === "shipped" ? "delivered" : "shipped"}' WHERE id = ${order.id};`;
  async function copy() {
    await navigator.clipboard.writeText(update);
    setCopied(true);
    setTimeout(() => setCopied(false), copiedMs);
  }
  return (
    <aside className="try" aria-label="Try it">
      <p>Run this in any SQL client, and watch the row:</p>
      <code>{update}</code>
      <button type="button" className="quiet" onClick={() => void copy()}>
        {isCopied ? "Copied" : "Copy"}
      </button>
    </aside>
  );
}
