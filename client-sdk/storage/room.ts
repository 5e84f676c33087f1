/**
 * Room for what Postgres writes into files of its own: where there is none it ends in the middle of something, so it is
 * kept from writing while there is still a reserve.
 */

export interface RoomHooks {
  /** There is no more than the reserve. Whoever wants to write waits. */
  full(): void;
}

// More than comes in, and is written ahead, between two times of asking.
const RESERVE_BYTES = 32 << 20;
const ASK_EVERY_MS = 250;
const ASK_AGAIN_MS = 1000;

export class Room {
  isFull = false;
  private readonly hooks: RoomHooks;
  private askAtMs = 0;
  private isClosed = false;
  private wake: () => void = () => {};

  constructor(hooks: RoomHooks) {
    this.hooks = hooks;
  }

  /** Undefined: there is room, as far as is known. */
  wait(): Promise<void> | undefined {
    return performance.now() < this.askAtMs ? undefined : this.ask();
  }

  close(): void {
    this.isClosed = true;
    this.wake();
  }

  private async ask(): Promise<void> {
    while (!this.isClosed && !(await hasRoom())) {
      if (!this.isFull) this.hooks.full();
      this.isFull = true;
      await this.pause();
    }
    this.isFull = false;
    this.askAtMs = performance.now() + ASK_EVERY_MS;
  }

  private pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ASK_AGAIN_MS);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** https://storage.spec.whatwg.org/#dom-storagemanager-estimate */
async function hasRoom(): Promise<boolean> {
  const { quota, usage } = await navigator.storage.estimate();
  return quota === undefined || usage === undefined || quota - usage > RESERVE_BYTES;
}
