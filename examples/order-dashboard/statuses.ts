/** What can become of an order, in the order in which it usually does: known to the database, the server and the page. */
export const statuses = ["pending", "paid", "packed", "shipped", "delivered", "cancelled"] as const;

export type Status = (typeof statuses)[number];

export function isStatus(value: unknown): value is Status {
  return statuses.some((status) => status === value);
}
