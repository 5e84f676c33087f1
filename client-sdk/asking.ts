/** What is said to the server to subscribe: what is wanted, and what of it is there already. */
import type { ClientMessage } from "../engine/protocol.ts";
import type { Lane } from "./lane.ts";

type Subscribe = Extract<ClientMessage, { kind: "subscribe" }>;
type Listen = Extract<ClientMessage, { kind: "listen" }>;

export function asking(lane: Lane): Subscribe | Listen {
  const { id, subscriber } = lane;
  const messages = subscriber.messages?.();
  if (messages) return { kind: "listen", id, messages };
  const { request, changes } = subscriber;
  return { kind: "subscribe", id, shape: request, ...(changes ? { changes: true } : {}), ...had(lane) };
}

function had({ told, part, subscriber }: Lane): Pick<Subscribe, "after" | "load" | "shown"> {
  const { access } = subscriber.member;
  return {
    ...(told ? { after: told } : {}),
    ...(part ? { load: { ...part } } : {}),
    // Whose the rows are that it shows.
    ...(access === undefined ? {} : { shown: access }),
  };
}
