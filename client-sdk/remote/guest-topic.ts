/** A topic that the host listens to, as a page hears it. */
import { errorFromJson, type WalcastError } from "../../engine/protocol.ts";
import { call } from "../listeners.ts";
import type { TopicListener, TopicOptions } from "../topic.ts";
import type { Handle } from "./link.ts";
import type { TopicEvent } from "./messages.ts";

interface TopicRequest {
  readonly topic: string;
  readonly options: TopicOptions;
}

export class GuestTopic implements Handle<TopicEvent, TopicRequest> {
  private readonly request: TopicRequest;
  private listener: TopicListener;
  /** Everything up to here was heard. */
  private reached: string | undefined;

  constructor(request: TopicRequest, listener: TopicListener) {
    this.request = request;
    this.listener = listener;
  }

  /** The next host goes on where the last one was. */
  again(): TopicRequest {
    return this.reached === undefined ? this.request : { ...this.request, options: { since: this.reached } };
  }

  abandon(): void {
    this.listener = {};
  }

  apply(event: TopicEvent): () => void {
    if (event.kind === "failed") return this.failed(errorFromJson(event.error));
    const { onConnect, onMessage } = this.listener;
    const { position } = event.kind === "message" ? event.message : event;
    this.reached = position;
    return () => {
      if (event.kind === "message" && onMessage) call(onMessage, [event.message]);
      if (event.kind === "connected" && onConnect)
        call(onConnect, [{ position, missed: event.missed && errorFromJson(event.missed) }]);
    };
  }

  failed(error: WalcastError): () => void {
    const told = this.barred(error);
    this.abandon();
    return told;
  }

  /** Where it is connected after all it hears that, too. */
  barred(error: WalcastError): () => void {
    const { onError } = this.listener;
    return () => {
      if (onError) call(onError, [error]);
    };
  }
}
