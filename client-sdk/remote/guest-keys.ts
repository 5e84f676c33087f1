/** Keys that the host listens to, as a page hears of them. What was named between two hosts nobody knows: it is told all of them. */
import { errorFromJson, WalcastError } from "../../engine/protocol.ts";
import { call } from "../listeners.ts";
import type { Revalidated } from "../revalidations.ts";
import type { Handle } from "./link.ts";
import type { KeysEvent } from "./messages.ts";

interface KeysRequest {
  readonly keys: readonly string[];
}

export class GuestKeys implements Handle<KeysEvent, KeysRequest> {
  private readonly request: KeysRequest;
  private tell: ((revalidated: Revalidated) => void) | undefined;
  private readonly fail: ((error: WalcastError) => void) | undefined;
  private hasBegun = false;
  private isLost = false;

  constructor(
    keys: readonly string[],
    tell: (revalidated: Revalidated) => void,
    fail: ((error: WalcastError) => void) | undefined,
  ) {
    this.request = { keys };
    this.tell = tell;
    this.fail = fail;
  }

  again(): KeysRequest {
    this.isLost = this.hasBegun;
    return this.request;
  }

  abandon(): void {
    this.tell = undefined;
  }

  apply(event: KeysEvent): () => void {
    if (event.kind === "failed") return this.failed(errorFromJson(event.error));
    if (event.kind === "revalidated")
      return this.telling({
        keys: event.keys,
        position: event.position,
        missed: event.missed && errorFromJson(event.missed),
      });
    this.hasBegun = true;
    if (!this.isLost) return () => {};
    this.isLost = false;
    const missed = new WalcastError("connection_lost", "listen to keys: another page has the replica now");
    return this.telling({ ...this.request, position: event.position, missed });
  }

  failed(error: WalcastError): () => void {
    return () => {
      if (this.tell && this.fail) call(this.fail, [error]);
    };
  }

  private telling(revalidated: Revalidated): () => void {
    return () => {
      if (this.tell) call(this.tell, [revalidated]);
    };
  }
}
