/** What a connection is asked for: what is wanted, what of it is there already, and what the numbers in the answers stand for. */
import { type ClientMessage, WalcastError } from "../engine/protocol.ts";
import type { Lane } from "./lane.ts";

export class Asking {
  private readonly send: (message: ClientMessage) => void;
  private byId = new Map<number, Lane>();
  private nextId = 1;

  constructor(send: (message: ClientMessage) => void) {
    this.send = send;
  }

  /** The connection is over. */
  clear(): void {
    this.byId = new Map();
  }

  /** Throws WalcastError where the server would not take it. */
  ask(lane: Lane): void {
    lane.id = this.nextId++;
    this.byId.set(lane.id, lane);
    this.send(requestOf(lane));
  }

  leave(lane: Lane): void {
    if (this.has(lane)) this.send({ kind: "unsubscribe", id: lane.id });
  }

  /** The last has come for it. */
  forget(id: number): void {
    this.byId.delete(id);
  }

  audited(lane: Lane, matches: boolean): void {
    if (this.has(lane)) this.send({ kind: "audited", id: lane.id, matches });
  }

  /** Undefined for one that is over: the server may not know yet. */
  lane(id: number): Lane | undefined {
    if (id >= this.nextId)
      throw new WalcastError(
        "malformed_message",
        `read a message: expected a subscription that was asked for, found ${id}`,
      );
    const lane = this.byId.get(id);
    return lane?.stage === "over" ? undefined : lane;
  }

  private has(lane: Lane): boolean {
    return this.byId.get(lane.id) === lane;
  }
}

function requestOf({ id, stage, subscriber, identity, told, part }: Lane): ClientMessage {
  const goesOn = { id, identity: stage === "resuming" ? identity : undefined };
  const messages = subscriber.messages?.();
  if (messages) return { kind: "listen", ...goesOn, messages };
  const { request, changes, member } = subscriber;
  // As JSON it has what is not undefined. `shown`: whose the rows are that it shows.
  return {
    kind: "subscribe",
    ...goesOn,
    shape: request,
    changes: changes || undefined,
    after: told,
    load: part,
    shown: member.access,
  };
}
