/** What the server renders, and the page renders again. */
export interface Order {
  readonly id: number;
  readonly status: string;
}

export const shapes = { orders: { table: "orders", columns: ["id", "status"] } };

export function list(orders: readonly Order[]): string {
  return orders.map(({ id, status }) => `<li>${id}: ${escaped(status)}</li>`).join("");
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
