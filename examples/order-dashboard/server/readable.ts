/** What the engine serves. Tables and topics that are not named here are served to nobody. */
import type { WalcastConfig } from "@walcast/engine";

/** Whoever opens the page sees every row of the shop. */
const everyRow = { read: true } as const;

export const readable = {
  tables: {
    customers: everyRow,
    products: everyRow,
    orders: everyRow,
    order_items: everyRow,
    simulation: everyRow,
  },
  topics: {
    // What the database announces: no page can.
    orders: { read: true },
    // Who has the page open. Ephemeral: pages say so themselves, and it is written nowhere.
    viewers: { read: true, publish: true },
  },
} satisfies WalcastConfig;
