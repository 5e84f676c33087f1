/**
 * Gives back what a burst needed, when it is over. V8 collects when it needs room: what thousands of subscriptions left behind stays
 * until as much comes again. So once the process has had little to do for some seconds, and holds much more than after the last
 * time, everything is collected; that takes some tens of milliseconds. Only where Node was started with `--expose-gc`, as `walcast` is.
 */
import process from "node:process";
import { getHeapStatistics } from "node:v8";

/** For so long, in ticks of a second. */
const calmTicks = 3;
/** Of one core, in a second. */
const calmUs = 50_000;
const worthBytes = 16 * 1024 * 1024;

export class Calm {
  private cpu = process.cpuUsage();
  private ticks = 0;
  private heldBytes = 0;

  /** Every second. */
  tick(): void {
    const { user, system } = process.cpuUsage(this.cpu);
    this.cpu = process.cpuUsage();
    this.ticks = user + system < calmUs ? this.ticks + 1 : 0;
    if (this.ticks === calmTicks) this.collect();
  }

  private collect(): void {
    if (!globalThis.gc || getHeapStatistics().used_heap_size - this.heldBytes < worthBytes) return;
    globalThis.gc({ type: "major", execution: "sync", flavor: "last-resort" });
    this.heldBytes = getHeapStatistics().used_heap_size;
  }
}
