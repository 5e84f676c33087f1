/**
 * Ephemeral topics of pages that share a replica. They share its socket as well, so to everybody else all of them are one
 * member, with the state that one of them gave last; what one of them says the others hear, as from their own name.
 */
import type { ClientMessage, ServerMessage, WalcastError } from "../../engine/protocol.ts";
import type { EphemeralTopic } from "../meetings.ts";
import type { ToGuest } from "./messages.ts";
import type { Core } from "./sources.ts";

/** What a page's `Meetings` says and hears: that of the protocol, with the host in the server's place. */
export type MeetingMessage = Extract<ClientMessage, { kind: "meet" | "say" | "track" | "part" }>;
export type Meet = Omit<Extract<ServerMessage, { kind: "meeting" }>, "frame" | "kind">;

interface Page {
  hear(meet: Omit<Meet, "topic">): void;
}

/** One page's. */
export class PageMeetings {
  private readonly core: Core;
  private readonly say: (message: ToGuest) => void;
  private readonly leaveByTopic = new Map<string, () => void>();
  private readonly pageByTopic = new Map<string, Page>();

  constructor(core: Core, say: (message: ToGuest) => void) {
    this.core = core;
    this.say = say;
  }

  take(message: MeetingMessage): void {
    const { kind, topic } = message;
    if (kind === "meet") return this.enter(topic);
    if (kind === "part") return this.leaveByTopic.get(topic)?.();
    const page = this.pageByTopic.get(topic);
    if (!page) return;
    const room = this.roomOf(topic);
    if (kind === "say") room.say(page, message.payload);
    else room.track(page, message.state);
  }

  close(): void {
    for (const leave of [...this.leaveByTopic.values()]) leave();
  }

  private enter(topic: string): void {
    if (this.leaveByTopic.has(topic)) return;
    const page: Page = { hear: (meet) => this.say({ kind: "meeting", meet: { topic, ...meet } }) };
    const leave = this.roomOf(topic).enter(page, (error) => {
      this.forget(topic);
      this.say({ kind: "unmet", topic, error: error.toJSON() });
    });
    this.pageByTopic.set(topic, page);
    this.leaveByTopic.set(topic, () => {
      this.forget(topic);
      leave();
    });
  }

  private forget(topic: string): void {
    this.pageByTopic.delete(topic);
    this.leaveByTopic.delete(topic);
  }

  private roomOf(name: string): Room {
    const topic = this.core.topic(name, { ephemeral: true });
    const room = rooms.get(topic) ?? new Room(topic);
    rooms.set(topic, room);
    return room;
  }
}

const rooms = new WeakMap<EphemeralTopic, Room>();

/** All pages that are in one topic. */
class Room {
  private readonly topic: EphemeralTopic;
  private readonly pages = new Set<Page>();
  /** The one that was given last is the last. */
  private readonly states = new Map<Page, unknown>();
  private you = "";

  constructor(topic: EphemeralTopic) {
    this.topic = topic;
  }

  enter(page: Page, refused: (error: WalcastError) => void): () => void {
    this.pages.add(page);
    const { topic } = this;
    const stop = topic.subscribe({
      onConnect: ({ you }) => {
        this.you = you;
        page.hear({ you, members: topic.members });
      },
      onMessage: (said) => page.hear({ said }),
      onPresence: ({ members }) => page.hear({ members }),
      onError: (error) => {
        this.pages.delete(page);
        this.states.delete(page);
        refused(error);
      },
    });
    return () => {
      this.pages.delete(page);
      this.track(page, undefined);
      stop();
    };
  }

  say(by: Page, payload: unknown): void {
    this.topic.publish(payload);
    for (const page of this.pages) if (page !== by) page.hear({ said: { from: this.you, payload } });
  }

  /** Undefined: it is no member any more. */
  track(page: Page, state: unknown): void {
    const before = this.states.size;
    this.states.delete(page);
    if (state !== undefined) this.states.set(page, state);
    else if (this.states.size === before) return;
    const [last] = [...this.states.values()].slice(-1);
    if (last === undefined) this.topic.untrack();
    else this.topic.track(last);
  }
}
