/**
 * One tab's worker. It waits for the store's lock, and hosts the replica for all tabs from then on: until it closes, crashes,
 * or is robbed because it was frozen. Who was robbed never touches the store again: it ends itself.
 */
import { WalcastError } from "../../engine/protocol.ts";
import { WalcastClient } from "../client.ts";
import { Host } from "./host.ts";
import { type Announcement, type FromWorker, namesOf, type StoreOptions, type ToWorker } from "./meeting-place.ts";
import { errorToJson, type Port, portOf, type ToGuest, type ToHost } from "./messages.ts";

/** Who has not got the store by then waits for somebody else's end, and gets ready for it when its page has shown something. */
const REHEARSE_AFTER_MS = 1_000;

type LastWord = Exclude<FromWorker, { kind: "begun" | "hosting" }>;
type Join = Extract<Announcement, { kind: "join" }>;

export interface WorkerScope {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  /** Ends the worker, with all that it was about to do. */
  close(): void;
}

export class Contender {
  private readonly scope: WorkerScope;
  private readonly worker: string;
  private readonly options: StoreOptions;
  private readonly ownPort: MessagePort;
  private readonly names: ReturnType<typeof namesOf>;
  private readonly common: BroadcastChannel;
  private readonly waiting = new AbortController();
  private readonly guests = new Map<string, { identity: string; leave(): void; refuse(): void }>();
  /** Pages that came before it was known whose replica this is. */
  private readonly early = new Map<string, Join>();
  private identity: string | undefined;
  private host: Host | undefined;
  private release: (() => void) | undefined;
  /** That was heard of: announcements may have been made before this worker began. */
  private lastOwner: string | undefined;

  constructor(scope: WorkerScope, { worker, options, port }: Extract<ToWorker, { kind: "start" }>) {
    this.scope = scope;
    this.worker = worker;
    this.options = options;
    this.ownPort = port;
    this.names = namesOf(options.replica);
    this.common = new BroadcastChannel(this.names.common);
    this.common.onmessage = ({ data }: MessageEvent<Announcement>) => this.hear(data);
    // For as long as it lives: its page sees by it when it does not.
    void navigator.locks.request(this.names.worker(worker), () => {
      scope.postMessage({ kind: "begun" });
      return new Promise(() => {});
    });
    void this.queue();
  }

  do(message: Exclude<ToWorker, { kind: "start" }>): void {
    switch (message.kind) {
      case "identity":
        return this.identify(message.identity);
      case "rob":
        return void this.rob(message.owner);
      case "flush":
        return void this.host?.flush().catch(() => {});
      case "release":
        return void this.leave({ kind: "ended" });
      case "close":
        return void this.leave({ kind: "closed" });
    }
  }

  // ── The lock ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One of all that wait is the next, and gets ready: what that takes of memory, it alone pays. */
  private async queue(): Promise<void> {
    const { signal } = this.waiting;
    await this.lock(this.names.next, { signal }, async () => {
      const rehearsing = setTimeout(() => void rehearse(), REHEARSE_AFTER_MS);
      await new Promise<void>((settled) => void this.contend({ signal }, settled).then(settled));
      clearTimeout(rehearsing);
    });
  }

  private contend(how: LockOptions, granted: () => void): Promise<void> {
    return this.lock(this.names.lock, how, () => {
      granted();
      return this.own();
    });
  }

  /** Rejects to whoever has the lock when somebody steals it. */
  private async lock(name: string, how: LockOptions, work: () => Promise<void>): Promise<void> {
    try {
      await navigator.locks.request(name, how, work);
    } catch (error) {
      if (this.host) this.end({ kind: "ended" });
      else if (!how.signal?.aborted) this.end({ kind: "failed", error: errorToJson(error), isInUse: false });
    }
  }

  /** Resolves when the store is closed: the lock is given back then. */
  private own(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.release = resolve;
    this.host = new Host(
      (token) => new WalcastClient<Record<string, Record<string, unknown>>, string>({ ...this.options, token }),
      { failed: (error) => this.fail(error) },
    );
    this.host.addGuest(portOf(this.ownPort));
    this.scope.postMessage({ kind: "hosting" });
    this.announce();
    return promise;
  }

  /** One robber at a time, and nobody who is not the owner any more. */
  private async rob(owner: string): Promise<void> {
    await navigator.locks.request(this.names.robbing, { ifAvailable: true }, async (lock) => {
      if (!lock || this.host || (this.lastOwner ?? owner) !== owner) return;
      this.waiting.abort();
      await new Promise<void>((settled) => void this.contend({ steal: true }, settled).then(settled));
    });
  }

  /** The core stores what it has to, then others can open the store. */
  private async leave(how: LastWord): Promise<void> {
    this.waiting.abort();
    this.common.onmessage = null;
    const { host } = this;
    await host?.close().catch(() => {});
    this.host = undefined;
    this.release?.();
    this.end(how);
  }

  /** The replica has crashed, or could not be opened. A worker with nothing in its memory can do better. */
  private fail(error: WalcastError): void {
    const isInUse = error.cause instanceof WalcastError && error.cause.code === "config_invalid";
    this.end({ kind: "failed", error: errorToJson(error), isInUse });
  }

  private end(how: LastWord): void {
    this.common.close();
    this.scope.postMessage(how);
    this.scope.close();
  }

  // ── Other tabs ─────────────────────────────────────────────────────────────────────────────────────────────────────

  private announce(): void {
    this.lastOwner = this.worker;
    this.say({ kind: "owner", owner: this.worker });
  }

  private hear(announcement: Announcement): void {
    if (announcement.kind === "owner") this.lastOwner = announcement.owner;
    if (!this.host) return;
    if (announcement.kind === "who") this.announce();
    if (announcement.kind === "alive?" && announcement.owner === this.worker)
      this.say({ kind: "alive", owner: this.worker });
    if (announcement.kind === "join" && announcement.owner === this.worker) this.admit(this.host, announcement);
  }

  /** A page of somebody else does not share: what it may see is something else. */
  private admit(host: Host, join: Join): void {
    const { guest, identity } = join;
    if (this.identity === undefined) return void this.early.set(guest, join);
    this.guests.get(guest)?.leave();
    const channel = new BroadcastChannel(this.names.guest(guest));
    const port = portOf<ToGuest, ToHost>(channel);
    if (identity !== this.identity) return refuse(port);
    const forget = host.addGuest(port);
    const entry = {
      identity,
      leave: () => {
        if (this.guests.get(guest) === entry) this.guests.delete(guest);
        forget();
      },
      refuse: () => {
        entry.leave();
        refuse(portOf(new BroadcastChannel(this.names.guest(guest))));
      },
    };
    this.guests.set(guest, entry);
    // It has its lock for as long as it lives.
    void navigator.locks.request(this.names.guest(guest), () => entry.leave()).catch(() => {});
  }

  private identify(identity: string): void {
    const isChanged = this.identity !== undefined && this.identity !== identity;
    this.identity = identity;
    for (const guest of this.guests.values()) if (guest.identity !== identity) guest.refuse();
    if (!this.host) return;
    if (isChanged) this.say({ kind: "changed", owner: this.worker });
    for (const join of this.early.values()) this.admit(this.host, join);
    this.early.clear();
  }

  private say(announcement: Announcement): void {
    this.common.postMessage(announcement);
  }
}

/** Whoever cannot takes longer to take over. */
async function rehearse(): Promise<void> {
  const rehearsal = await import("./rehearsal.ts").catch(() => undefined);
  await rehearsal?.rehearse().catch(() => {});
}

function refuse(port: Port<ToGuest, ToHost>): void {
  const error = new WalcastError(
    "config_invalid",
    "open the replica: another page has it open for another user, or for another server",
    { hint: "Close that page, or give this one a replica of another name." },
  );
  port.post([{ kind: "refused", error: errorToJson(error) }]);
  port.close();
}
