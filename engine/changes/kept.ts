/**
 * Finished snapshots that nobody uses at present, for those who ask next. They are compressed one after another, and the one
 * that was used longest ago goes first.
 */
import type { SharedSnapshot } from "./shared-snapshot.ts";

export interface KeptLimits {
  /** On disk, compressed; 0 keeps none, the small ones in memory neither. */
  readonly fileBytes: number;
}

/** Of small ones, which are in memory. */
const memoryBytesMax = 32 << 20;
/** What one takes beside its rows: the shape, the token. */
const overheadBytes = 4 << 10;
/** Each is an open file. */
const filesMax = 256;
/** What cannot get smaller than the limit is not worth trying. */
const packedShareMin = 1 / 16;

interface Size {
  readonly memoryBytes: number;
  readonly fileBytes: number;
}

export class Kept {
  private readonly limits: KeptLimits;
  private readonly onEvicted: (shared: SharedSnapshot) => void;
  /** The one used longest ago first. */
  private readonly sizes = new Map<SharedSnapshot, Size>();
  /** Resolves when all that were added are compressed. */
  settled: Promise<void> = Promise.resolve();
  private memoryBytes = 0;
  private files = 0;
  /** What they take on disk. */
  fileBytes = 0;

  constructor(limits: KeptLimits, onEvicted: (shared: SharedSnapshot) => void) {
    this.limits = limits;
    this.onEvicted = onEvicted;
  }

  get size(): number {
    return this.sizes.size;
  }

  has(shared: SharedSnapshot): boolean {
    return this.sizes.has(shared);
  }

  add(shared: SharedSnapshot): void {
    const { spool } = shared;
    const { fileBytes } = this.limits;
    if (fileBytes === 0 || spool.fileBytes * packedShareMin > fileBytes) return this.onEvicted(shared);
    this.sizes.set(shared, { memoryBytes: 0, fileBytes: 0 });
    this.settled = this.settled.then(() => this.pack(shared));
  }

  /** It is in use again, or not wanted any more. */
  delete(shared: SharedSnapshot): void {
    this.count(shared, { memoryBytes: 0, fileBytes: 0 });
    this.sizes.delete(shared);
  }

  private async pack(shared: SharedSnapshot): Promise<void> {
    if (!this.has(shared)) return;
    try {
      await shared.spool.pack();
    } catch {
      if (this.has(shared)) this.evict(shared);
    }
    if (!this.has(shared)) return;
    const { memoryBytes, fileBytes } = shared.spool;
    this.count(shared, { memoryBytes: memoryBytes + overheadBytes, fileBytes });
    this.trim();
  }

  private count(shared: SharedSnapshot, now: Size): void {
    const before = this.sizes.get(shared);
    if (!before) return;
    this.memoryBytes += now.memoryBytes - before.memoryBytes;
    this.fileBytes += now.fileBytes - before.fileBytes;
    this.files += Number(now.fileBytes > 0) - Number(before.fileBytes > 0);
    this.sizes.set(shared, now);
  }

  /** Those that are not compressed yet count for nothing, and stay. */
  private trim(): void {
    for (const [shared, { memoryBytes, fileBytes }] of this.sizes) {
      const tooManyFiles = this.fileBytes > this.limits.fileBytes || this.files > filesMax;
      const tooMuchMemory = this.memoryBytes > memoryBytesMax;
      if (!tooManyFiles && !tooMuchMemory) return;
      const isSmall = memoryBytes > 0 && fileBytes === 0;
      if ((tooManyFiles && fileBytes > 0) || (tooMuchMemory && isSmall)) this.evict(shared);
    }
  }

  private evict(shared: SharedSnapshot): void {
    this.delete(shared);
    this.onEvicted(shared);
  }
}
