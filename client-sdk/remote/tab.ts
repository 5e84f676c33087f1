/**
 * A page's part in sharing a store: has a worker that contends for it, and brings the page's guest together with whoever
 * has it. Watches over the owner while the page is looked at: one that is frozen has to be robbed.
 */
import { whoHas } from "../owner.ts";
import { errorFromJson, WalcastError } from "../../engine/protocol.ts";
import type { Meeting } from "./guest.ts";
import {
  type Announcement,
  type FromWorker,
  identityOf,
  namesOf,
  type StoreOptions,
  type ToWorker,
} from "./meeting-place.ts";
import { portOf } from "./messages.ts";

/** Three that are not answered, and a page that says nothing in their place: within two seconds somebody else has the store. */
const PING_MS = 300;
const MISSED_MAX = 3;
/** A page that is offline has no token, perhaps. */
const TOKEN_AGAIN_MS = 2_000;

/** A worker that fails is replaced, at first at once; one that lasts is not held against the next. */
const RESTART_MS_MAX = 2_000;
const LASTING_MS = 30_000;
/** Of one that fails at once every time nothing will come, unless somebody else has its files: they may give them back. */
const FAILURES_MAX = 8;

/** What the platform tells a page before it stops it, perhaps for ever. */
const endings = ["visibilitychange", "pagehide", "freeze"] as const;

type GuestLink = Parameters<Meeting["start"]>[0];

export class Tab implements Meeting {
  private readonly options: StoreOptions;
  private readonly createWorker: () => Worker;
  private readonly names: ReturnType<typeof namesOf>;
  private readonly guest = crypto.randomUUID();
  private readonly common: BroadcastChannel;
  private link: GuestLink | undefined;
  private token: () => Promise<string | undefined> = async () => undefined;
  private worker: Worker | undefined;
  private workerId = "";
  private ownPort: MessagePort | undefined;
  /** Whose guest we are. */
  private owner: string | undefined;
  private isHosting = false;
  private startedMs = 0;
  private failures = 0;
  private restarting: ReturnType<typeof setTimeout> | undefined;
  private identity: string | undefined;
  private readonly isIdentified = Promise.withResolvers<void>();
  private leave: () => void = () => {};
  private pinging: ReturnType<typeof setInterval> | undefined;
  private pingedMs = Infinity;
  private missed = 0;
  private wasAnswered = false;
  private closing: PromiseWithResolvers<void> | undefined;

  /** Throws `config_invalid`. */
  constructor(options: StoreOptions, createWorker: () => Worker) {
    if (!globalThis.navigator?.locks || typeof Worker === "undefined")
      throw new WalcastError(
        "config_invalid",
        `create a client: expected a page that can have ${options.replica}, found one without workers or locks`,
        { hint: "Browsers have locks on https:// and localhost only." },
      );
    this.options = options;
    this.createWorker = createWorker;
    this.names = namesOf(options.replica);
    this.common = new BroadcastChannel(this.names.common);
  }

  start(link: GuestLink, token: () => Promise<string | undefined>): void {
    this.link = link;
    this.token = token;
    this.common.onmessage = ({ data }: MessageEvent<Announcement>) => this.hear(data);
    this.startWorker();
    void this.identify();
    void this.lookFor();
    this.pinging = setInterval(() => this.watch(), PING_MS);
    for (const name of endings) globalThis.addEventListener?.(name, this.ending, true);
  }

  async close(): Promise<void> {
    clearInterval(this.pinging);
    clearTimeout(this.restarting);
    for (const name of endings) globalThis.removeEventListener?.(name, this.ending, true);
    this.common.onmessage = null;
    this.closing = Promise.withResolvers<void>();
    if (this.worker) this.tell({ kind: "close" });
    else this.closing.resolve();
    await this.closing.promise;
    this.worker?.terminate();
    this.common.close();
    this.leave();
  }

  // ── The worker of this page ────────────────────────────────────────────────────────────────────────────────────────

  private startWorker(): void {
    const { port1, port2 } = new MessageChannel();
    this.ownPort = port1;
    this.workerId = crypto.randomUUID();
    this.isHosting = false;
    this.startedMs = performance.now();
    const worker = this.createWorker();
    this.worker = worker;
    let hasBegun = false;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if (data.kind === "begun") hasBegun = true;
      this.heard(worker, data);
    };
    worker.onerror = ({ message }) => {
      const what = hasBegun ? "threw" : "did not start";
      const error = new WalcastError(
        "replica_failed",
        `run the replica's worker: it ${what}${message ? `: ${message}` : ""}`,
      );
      if (!hasBegun) this.failed(worker, error);
      else this.link?.trouble(error);
    };
    worker.postMessage(
      { kind: "start", worker: this.workerId, options: this.options, port: port2 } satisfies ToWorker,
      [port2],
    );
    if (this.identity !== undefined) this.tell({ kind: "identity", identity: this.identity });
  }

  private tell(message: ToWorker): void {
    this.worker?.postMessage(message);
  }

  private heard(worker: Worker, message: FromWorker): void {
    if (worker !== this.worker) return;
    switch (message.kind) {
      case "begun":
        return void this.watchOver(worker, this.workerId);
      case "hosting":
        this.isHosting = true;
        this.owner = this.workerId;
        return this.link?.attach(portOf(this.ownPort!));
      case "ended":
        return this.restart();
      case "failed":
        return this.failed(worker, errorFromJson(message.error), message.isInUse);
      case "closed":
        return this.closing?.resolve();
    }
  }

  /** What this page's worker had of the store, others have now. */
  private restart(): void {
    this.end();
    if (this.closing) return this.closing.resolve();
    this.startAnew();
  }

  private end(): void {
    this.worker?.terminate();
    this.worker = undefined;
    // Of another worker it may still be a guest.
    if (!this.isHosting) return;
    this.isHosting = false;
    this.owner = undefined;
    this.link?.detach();
  }

  private startAnew(): void {
    this.startWorker();
    this.say({ kind: "who" });
  }

  /** Whoever gets its lock has outlived it. */
  private async watchOver(worker: Worker, id: string): Promise<void> {
    await navigator.locks.request(this.names.worker(id), () => {});
    this.failed(worker, new WalcastError("replica_failed", "run the replica: its worker ended without a word"));
  }

  private failed(worker: Worker, error: WalcastError, isInUse = false): void {
    if (worker !== this.worker) return;
    if (this.closing) return this.closing.resolve();
    if (performance.now() - this.startedMs > LASTING_MS) this.failures = 0;
    this.link?.trouble(error);
    this.end();
    if (++this.failures >= FAILURES_MAX && !isInUse) return this.link?.refuse(error);
    const waitMs = this.failures === 1 ? 0 : Math.min(RESTART_MS_MAX, 50 * 2 ** this.failures);
    this.restarting = setTimeout(() => this.startAnew(), waitMs);
  }

  // ── Other tabs ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whoever has the store can tell by this page's lock that the page is there. */
  private async lookFor(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.leave = resolve;
    void navigator.locks.request(this.names.guest(this.guest), async () => {
      this.say({ kind: "who" });
      await promise;
    });
  }

  private hear(announcement: Announcement): void {
    if (announcement.kind === "owner" && announcement.owner !== this.owner) void this.join(announcement.owner);
    if (announcement.kind === "changed" && announcement.owner === this.owner && !this.link?.isWelcome)
      void this.join(announcement.owner);
    if (announcement.kind === "alive?" && this.isHosting && announcement.owner === this.workerId)
      this.say({ kind: "alive", owner: this.workerId });
    if (announcement.kind === "alive" && announcement.owner === this.owner) this.wasAnswered = true;
  }

  private async join(owner: string): Promise<void> {
    if (this.isHosting) return;
    this.owner = owner;
    await this.isIdentified.promise;
    if (this.owner !== owner || this.isHosting || this.closing) return;
    this.link?.attach(portOf(new BroadcastChannel(this.names.guest(this.guest))));
    this.say({ kind: "join", owner, guest: this.guest, identity: this.identity! });
  }

  /** The page has another token, perhaps of somebody else: whoever it was a guest of decides anew. */
  async tokenChanged(): Promise<void> {
    const before = this.identity;
    await this.identify();
    if (before === undefined || this.identity === before || this.isHosting) return;
    this.link?.detach();
    this.owner = undefined;
    this.say({ kind: "who" });
  }

  /** Nobody is let in as long as it is not known who that is. */
  private async identify(): Promise<void> {
    while (!this.closing) {
      try {
        const { url, subject } = this.options;
        this.identity = await identityOf(url, subject === undefined ? whoHas(await this.token()) : { subject });
        this.tell({ kind: "identity", identity: this.identity });
        return this.isIdentified.resolve();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, TOKEN_AGAIN_MS));
      }
    }
  }

  private say(announcement: Announcement): void {
    if (!this.closing) this.common.postMessage(announcement);
  }

  // ── Watching over the owner ────────────────────────────────────────────────────────────────────────────────────────

  /** Its own worker lives and dies with this page. */
  private watch(): void {
    const { link } = this;
    if (!link || this.isHosting || !isLookedAt()) return void (this.missed = 0);
    if (this.owner === undefined) return this.say({ kind: "who" });
    const isSilent = link.heardMs < this.pingedMs && !this.wasAnswered;
    this.missed = isSilent && this.pingedMs !== Infinity ? this.missed + 1 : 0;
    this.wasAnswered = false;
    if (this.missed > MISSED_MAX) {
      this.missed = 0;
      this.tell({ kind: "rob", owner: this.owner });
    }
    // A worker may be busy for long; its page says then that it is not frozen.
    if (this.missed > 0) this.say({ kind: "alive?", owner: this.owner });
    this.pingedMs = performance.now();
    link.ping();
  }

  /** A frozen page answers nobody: others get the store. https://wicg.github.io/page-lifecycle/ */
  private readonly ending = ({ type }: Event): void => {
    if (this.isHosting) this.tell({ kind: type === "freeze" ? "release" : "flush" });
  };
}

function isLookedAt(): boolean {
  return typeof document === "undefined" || document.visibilityState === "visible";
}
