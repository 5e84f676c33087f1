/** What is said to the server to subscribe: what is wanted, and what of it is there already. */
import type { ClientMessage } from "../engine/protocol.ts";
import type { Lane } from "./lane.ts";

type Asking = Extract<ClientMessage, { kind: "subscribe" | "listen" }>;

export function asking({ id, subscriber, told, part }: Lane): Asking {
  const messages = subscriber.messages?.();
  if (messages) return { kind: "listen", id, messages };
  const { request, changes, member } = subscriber;
  // As JSON it has what is not undefined. `shown`: whose the rows are that it shows.
  return {
    kind: "subscribe",
    id,
    shape: request,
    changes: changes || undefined,
    after: told,
    load: part,
    shown: member.access,
  };
}
