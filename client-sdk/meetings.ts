/**
 * Ephemeral topics: what is said to those who are here now, and who is here. Nothing of it is kept anywhere, and what cannot be
 * sent at once is dropped: for cursors and typing, not for anything that has to arrive.
 */
import {
  type ClientMessage,
  type ErrorJson,
  type Member,
  errorFromJson,
  type ServerMessage,
  type WalcastError,
} from "../engine/protocol.ts";
import { call } from "./listeners.ts";

export interface EphemeralMessage<Payload = unknown> {
  readonly payload: Payload;
  /** The member's name who said it, as `members` has it. */
  readonly from: string;
}

export interface PresenceChange {
  /** Everybody who is here and says so, oneself included. */
  readonly members: readonly Member[];
  /** New ones, and those with another state. */
  readonly joined: readonly Member[];
  readonly left: readonly Member[];
}

export interface EphemeralListener<Payload = unknown> {
  /** What is said comes from now on. Again after every connection: what was said in between is lost. `you`: one's own name. */
  readonly onConnect?: (start: { readonly you: string }) => void;
  readonly onMessage?: (message: EphemeralMessage<Payload>) => void;
  readonly onPresence?: (change: PresenceChange) => void;
  /** The server refuses, and nothing comes any more. */
  readonly onError?: (error: WalcastError) => void;
}

export interface EphemeralTopic<Payload = unknown> {
  readonly name: string;
  /** To everybody else who is here now. Dropped where the client is not connected, and beyond 100 a second. At most 16 KiB as JSON. */
  publish(payload: Payload): void;
  /** Returns what ends it. */
  subscribe(listener: EphemeralListener<Payload>): () => void;
  /** Is a member from now on, with this state, any JSON of at most 4 KiB; again with another one. */
  track(state: unknown): void;
  untrack(): void;
  readonly members: readonly Member[];
}

type Meet = Omit<Extract<ServerMessage, { kind: "meeting" }>, "frame" | "kind">;

/** What is said before one has entered. */
const waitingMax = 20;

export class Meetings {
  private readonly send: (message: ClientMessage) => void;
  private readonly meetings = new Map<string, Meeting>();
  private isOnline = false;

  constructor(send: (message: ClientMessage) => void) {
    this.send = send;
  }

  topic(name: string): EphemeralTopic {
    let meeting = this.meetings.get(name);
    if (!meeting) {
      meeting = new Meeting(name, (message) => {
        if (this.isOnline) this.send(message);
      });
      this.meetings.set(name, meeting);
    }
    return meeting;
  }

  get isEmpty(): boolean {
    return this.meetings.size === 0;
  }

  /** A connection was welcomed: it knows nothing of what was before. */
  online(): void {
    this.isOnline = true;
    for (const meeting of this.meetings.values()) meeting.online();
  }

  offline(): void {
    this.isOnline = false;
    for (const meeting of this.meetings.values()) meeting.offline();
  }

  message(message: Meet): void {
    this.meetings.get(message.topic)?.take(message);
  }

  /** Where it says who one is, all before it was of another connection. */
  again(message: Meet): void {
    const meeting = this.meetings.get(message.topic);
    if (message.you !== undefined && meeting?.hasEntered) meeting.offline();
    meeting?.take(message);
  }

  refused(topic: string, error: ErrorJson): void {
    this.meetings.get(topic)?.refused(errorFromJson(error));
  }

  close(): void {
    this.isOnline = false;
    this.meetings.clear();
  }
}

class Meeting implements EphemeralTopic {
  readonly name: string;
  private readonly send: (message: ClientMessage) => void;
  private readonly listeners = new Set<EphemeralListener>();
  /** Who knows it is the same member again after a connection was lost. */
  private readonly secret = crypto.randomUUID();
  private readonly byName = new Map<string, Member>();
  private waiting: unknown[] = [];
  private state: unknown;
  private isWanted = false;
  private you: string | undefined;

  constructor(name: string, send: (message: ClientMessage) => void) {
    this.name = name;
    this.send = send;
  }

  get members(): readonly Member[] {
    return [...this.byName.values()];
  }

  get hasEntered(): boolean {
    return this.you !== undefined;
  }

  publish(payload: unknown): void {
    this.want();
    if (this.you === undefined) this.waiting = [...this.waiting, payload].slice(-waitingMax);
    else this.say(payload);
  }

  subscribe(listener: EphemeralListener): () => void {
    // The same one may listen twice.
    const own = { ...listener };
    this.listeners.add(own);
    this.want();
    if (this.you !== undefined) queueMicrotask(() => this.greet(own));
    return () => {
      if (this.listeners.delete(own) && this.listeners.size === 0 && this.state === undefined) this.leave();
    };
  }

  track(state: unknown): void {
    this.state = state;
    this.want();
    if (this.you !== undefined) this.send({ kind: "track", topic: this.name, state });
  }

  untrack(): void {
    this.state = undefined;
    if (this.you !== undefined) this.send({ kind: "track", topic: this.name });
    if (this.listeners.size === 0) this.leave();
  }

  online(): void {
    if (this.isWanted) this.meet();
  }

  offline(): void {
    this.you = undefined;
    this.waiting = [];
  }

  take({ you, members, said, came, went }: Meet): void {
    if (members) this.entered(you ?? this.you!, members);
    if (said) for (const { onMessage } of [...this.listeners]) if (onMessage) call(onMessage, [said]);
    if (came) this.changed([came], []);
    if (went !== undefined) this.changed([], [went]);
  }

  refused(error: WalcastError): void {
    this.isWanted = false;
    this.offline();
    const listeners = [...this.listeners];
    this.listeners.clear();
    for (const { onError } of listeners) if (onError) call(onError, [error]);
  }

  private want(): void {
    if (this.isWanted) return;
    this.isWanted = true;
    this.meet();
  }

  private meet(): void {
    this.send({ kind: "meet", topic: this.name, secret: this.secret });
  }

  private leave(): void {
    this.isWanted = false;
    this.offline();
    this.byName.clear();
    this.send({ kind: "part", topic: this.name });
  }

  /** Also where something of it was missed: what there is now. */
  private entered(you: string, members: readonly Member[]): void {
    const isNew = this.you === undefined;
    this.you = you;
    if (isNew) for (const { onConnect } of [...this.listeners]) if (onConnect) call(onConnect, [{ you }]);
    const names = new Set(members.map(({ member }) => member));
    const left = [...this.byName.keys()].filter((name) => !names.has(name));
    const joined = members.filter(
      ({ member, state }) => JSON.stringify(this.byName.get(member)?.state) !== JSON.stringify(state),
    );
    if (joined.length + left.length > 0) this.changed(joined, left);
    if (!isNew) return;
    if (this.state !== undefined) this.send({ kind: "track", topic: this.name, state: this.state });
    for (const payload of this.waiting.splice(0)) this.say(payload);
  }

  private changed(joined: readonly Member[], left: readonly string[]): void {
    const gone = left.flatMap((name) => this.byName.get(name) ?? []);
    for (const one of joined) this.byName.set(one.member, one);
    for (const { member } of gone) this.byName.delete(member);
    const { members } = this;
    for (const { onPresence } of [...this.listeners])
      if (onPresence) call(onPresence, [{ members, joined, left: gone }]);
  }

  /** Who listens later than others hears what they have heard. */
  private greet(listener: EphemeralListener): void {
    if (this.you === undefined || !this.listeners.has(listener)) return;
    const { members } = this;
    if (listener.onConnect) call(listener.onConnect, [{ you: this.you }]);
    if (listener.onPresence && members.length > 0) call(listener.onPresence, [{ members, joined: members, left: [] }]);
  }

  private say(payload: unknown): void {
    this.send({ kind: "say", topic: this.name, payload });
  }
}
