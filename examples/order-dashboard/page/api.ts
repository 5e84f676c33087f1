/**
 * What this page asks the shop's server to do. None of it answers with rows: what was written comes back through the
 * replica, to this page as to every other. The report is no row: it is computed where it is asked for.
 */
import type { Bestseller } from "../server/report.ts";
import type { Status } from "../statuses.ts";

/** Rejects with an Error whose message can be shown. */
export async function setOrderStatus(id: number, status: Status): Promise<void> {
  await send("PATCH", `/api/orders/${id}`, { status });
}

export async function placeOrder(): Promise<void> {
  await send("POST", "/api/orders", {});
}

export async function setTraffic(on: boolean): Promise<void> {
  await send("POST", "/api/traffic", { on });
}

export async function fetchReport(): Promise<readonly Bestseller[]> {
  const response = await fetch("/api/report");
  if (!response.ok) throw new Error(await reasonIn(response));
  return (await response.json()) as readonly Bestseller[];
}

async function send(method: string, path: string, body: object): Promise<void> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(path, { method, headers, body: JSON.stringify(body) }).catch(() => undefined);
  if (!response) throw new Error("The shop's server cannot be reached.");
  if (!response.ok) throw new Error(await reasonIn(response));
}

async function reasonIn(response: Response): Promise<string> {
  const body: unknown = await response.json().catch(() => undefined);
  const message = typeof body === "object" && body && "message" in body ? body.message : undefined;
  return typeof message === "string" ? message : `The shop's server answered ${response.status}.`;
}
