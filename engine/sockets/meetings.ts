/**
 * Ephemeral topics: what is said to those who are here now, cursors and typing for instance, and who is here. Nothing of it is
 * written anywhere, nothing waits for a slow client, and it is this engine's alone. Who is here is told as what changed, and anew
 * as a whole to whoever missed some of that.
 */
import type { Auth, Config } from "../config.ts";
import { type ClientMessage, type Member, type ServerMessage, WalcastError } from "../protocol.ts";
import { digestOf } from "../shapes/digest.ts";
import { Rate } from "./bounds.ts";
import type { Frames, Unnumbered } from "./frames.ts";
import { requireTopic } from "./topics.ts";

/** With more than this waiting in its socket a client is told nothing. */
const waitingBytesMax = 64 * 1024;
/** What one connection says: several cursors at a screen's pace. What is more than that is dropped. */
const saidPerSecond = 100;
const bytesMax = { say: 16 * 1024, track: 4 * 1024 } as const;
const meetingsPerConnection = 100;
// All of them with their states are one message.
const membersPerTopic = 250;
type Meet = Extract<ClientMessage, { kind: "meet" }>;
type Say = Extract<ClientMessage, { kind: "say" }>;
type Track = Extract<ClientMessage, { kind: "track" }>;
type Part = Extract<ClientMessage, { kind: "part" }>;
export type MeetingMessage = Meet | Say | Track | Part;
type Told = Omit<Extract<Unnumbered<ServerMessage>, { kind: "meeting" }>, "kind" | "topic">;

interface Tracked {
  readonly state: unknown;
  by: Participant | undefined;
  leaving: NodeJS.Timeout | undefined;
}

interface Participant {
  readonly frames: Frames;
  /** Its name here: a digest of what only it knows, so that nobody takes its place. */
  readonly member: string;
  missed: boolean;
}

export class Meetings {
  private readonly graceMs: number;
  private readonly rooms = new Map<string, Room>();

  /** Whoever loses its connection is back within so long, or has left. */
  constructor(graceMs: number) {
    this.graceMs = graceMs;
  }

  room(topic: string): Room {
    let room = this.rooms.get(topic);
    if (!room) this.rooms.set(topic, (room = new Room(topic, this.graceMs, () => this.rooms.delete(topic))));
    return room;
  }

  close(): void {
    for (const room of this.rooms.values()) room.close();
  }
}

class Room {
  readonly participants = new Set<Participant>();
  readonly tracked = new Map<string, Tracked>();
  private readonly topic: string;
  private readonly graceMs: number;
  private readonly onEmpty: () => void;

  constructor(topic: string, graceMs: number, onEmpty: () => void) {
    this.topic = topic;
    this.graceMs = graceMs;
    this.onEmpty = onEmpty;
  }

  enter(participant: Participant): void {
    this.participants.add(participant);
    // Who comes and goes without reading is owed no more than who stays.
    if (hasRoom(participant)) this.tellMembers(participant);
    else participant.missed = true;
  }

  leave(participant: Participant): void {
    this.participants.delete(participant);
    const tracked = this.tracked.get(participant.member);
    if (tracked?.by === participant) {
      tracked.by = undefined;
      tracked.leaving = setTimeout(() => this.untrack(participant.member), this.graceMs);
    }
    this.tidy();
  }

  say(from: Participant, payload: unknown): void {
    for (const one of this.participants)
      if (one !== from && hasRoom(one)) this.tell(one, { said: { from: from.member, payload } });
  }

  track(by: Participant, state: unknown): void {
    const before = this.tracked.get(by.member);
    if (!before && this.tracked.size >= membersPerTopic)
      throw new WalcastError("too_many", `track: expected at most ${membersPerTopic} members of a topic`);
    clearTimeout(before?.leaving);
    this.tracked.set(by.member, { state, by, leaving: undefined });
    if (JSON.stringify(before?.state) !== JSON.stringify(state) || !before)
      this.tellAll({ came: { member: by.member, state } });
  }

  untrack(member: string): void {
    const tracked = this.tracked.get(member);
    if (!tracked) return;
    clearTimeout(tracked.leaving);
    this.tracked.delete(member);
    this.tellAll({ went: member });
    this.tidy();
  }

  /** Its socket took something. */
  drained(participant: Participant): void {
    if (participant.missed && hasRoom(participant)) this.tellMembers(participant);
  }

  close(): void {
    for (const { leaving } of this.tracked.values()) clearTimeout(leaving);
  }

  private tellAll(told: Told): void {
    for (const one of this.participants)
      if (one.missed || !hasRoom(one)) one.missed = true;
      else this.tell(one, told);
  }

  private tellMembers(participant: Participant): void {
    participant.missed = false;
    const members = Array.from(this.tracked, ([member, { state }]): Member => ({ member, state }));
    this.tell(participant, { you: participant.member, members });
  }

  private tell({ frames }: Participant, told: Told): void {
    frames.control({ kind: "meeting", topic: this.topic, ...told });
  }

  private tidy(): void {
    if (this.participants.size === 0 && this.tracked.size === 0) this.onEmpty();
  }
}

function hasRoom({ frames }: Participant): boolean {
  return frames.buffered <= waitingBytesMax;
}

export interface MeetingServices {
  readonly config: Pick<Config, "topics">;
  readonly meetings: Meetings;
}

/** Those that one connection is in. */
export class OwnMeetings {
  private readonly services: MeetingServices;
  private readonly frames: Frames;
  private readonly auth: () => Auth;
  private readonly refused: (topic: string, error: WalcastError) => void;
  private readonly entered = new Map<string, { readonly room: Room; readonly participant: Participant }>();
  private readonly entering = new Map<string, object>();
  private readonly rate = new Rate(saidPerSecond, saidPerSecond * 2);

  constructor(
    services: MeetingServices,
    frames: Frames,
    auth: () => Auth,
    refused: (topic: string, error: WalcastError) => void,
  ) {
    this.services = services;
    this.frames = frames;
    this.auth = auth;
    this.refused = refused;
  }

  async take(message: MeetingMessage): Promise<void> {
    const { topic } = message;
    try {
      if (message.kind === "meet") await this.meet(message);
      else if (message.kind === "part") this.part(topic);
      else if (this.entered.has(topic)) await this.act(message);
    } catch (error) {
      if (message.kind === "meet") this.part(topic);
      this.refused(topic, asWalcastError(error));
    }
  }

  /** The client has another token: where it may not be, it leaves. */
  async review(): Promise<void> {
    await Promise.all(
      [...this.entered].map(async ([topic, { room, participant }]) => {
        const ask = (what: "read" | "publish"): Promise<void> =>
          requireTopic(this.services.config, topic, what, this.auth());
        try {
          await ask("read");
          if (room.tracked.has(participant.member)) await ask("publish").catch(() => room.untrack(participant.member));
        } catch (error) {
          this.part(topic);
          this.refused(topic, asWalcastError(error));
        }
      }),
    );
  }

  drained(): void {
    for (const { room, participant } of this.entered.values()) room.drained(participant);
  }

  close(): void {
    this.entering.clear();
    for (const { room, participant } of this.entered.values()) room.leave(participant);
    this.entered.clear();
  }

  private async meet({ topic, secret }: Meet): Promise<void> {
    if (this.entered.size + this.entering.size >= meetingsPerConnection)
      throw new WalcastError("too_many", `meet: expected at most ${meetingsPerConnection} topics on a connection`);
    const entry = {};
    this.entering.set(topic, entry);
    const auth = this.auth();
    await requireTopic(this.services.config, topic, "read", auth);
    // It has left meanwhile, or is somebody else.
    if (this.entering.get(topic) !== entry || this.frames.over) return;
    this.entering.delete(topic);
    if (auth !== this.auth()) return this.meet({ kind: "meet", topic, secret });
    if (this.entered.has(topic)) return;
    const room = this.services.meetings.room(topic);
    const participant = { frames: this.frames, member: digestOf(`member ${secret}`), missed: false };
    this.entered.set(topic, { room, participant });
    room.enter(participant);
  }

  private part(topic: string): void {
    this.entering.delete(topic);
    const entered = this.entered.get(topic);
    this.entered.delete(topic);
    if (!entered) return;
    entered.room.leave(entered.participant);
    // It says so itself.
    entered.room.untrack(entered.participant.member);
  }

  private async act(message: Say | Track): Promise<void> {
    const { topic } = message;
    if (!this.rate.take(performance.now())) return;
    const value = message.kind === "say" ? message.payload : message.state;
    const most = bytesMax[message.kind];
    if (value !== undefined && Buffer.byteLength(JSON.stringify(value)) > most)
      throw new WalcastError("too_large", `${message.kind}: expected at most ${most} bytes`);
    await requireTopic(this.services.config, topic, "publish", this.auth());
    const entered = this.entered.get(topic);
    if (!entered) return;
    const { room, participant } = entered;
    if (message.kind === "say") room.say(participant, message.payload);
    else if (message.state === undefined) room.untrack(participant.member);
    else room.track(participant, message.state);
  }
}

function asWalcastError(error: unknown): WalcastError {
  return error instanceof WalcastError
    ? error
    : new WalcastError("not_streaming", "meet: the topic's rule could not be asked just now", { cause: error });
}
