/**
 * A line for every order that is ready to be shipped, and for every one that no longer is: events instead of state. The filter is the
 * server's, no row is kept here, and after a lost connection each event still comes once.
 *
 *     node --conditions=@walcast/source examples/channels/shipping.ts ws://localhost:4437
 */
import { type Client, createClient } from "@walcast/client";

interface Order {
  readonly id: number;
  readonly status: string;
}

/** Calls `tell` for each. Resolves, with what ends it, when nothing is missed from there on. */
export async function tellReady(client: Pick<Client, "channel">, tell: (line: string) => void): Promise<() => void> {
  const channel = client
    .channel<Order>("orders", { where: "status = 'packed'" })
    // Also one that was there before, and was packed now.
    .on("INSERT", ({ row }) => tell(`order ${row!.id} is ready`))
    .on("DELETE", ({ old, commitTime }) => tell(`order ${old!.id} left at ${commitTime.toISOString()}`))
    .subscribe();
  await channel.ready;
  return () => void channel.unsubscribe();
}

if (import.meta.main) await tellReady(createClient({ url: process.argv[2]! }), console.log);
