/**
 * Memory for what many write in turn: stretches of one large buffer, as a buffer for each of them takes longer to make than it takes
 * to fill. It lives as long as somebody has something in it.
 */
const slabBytes = 64 * 1024;

class Slab {
  bytes: Buffer = Buffer.alloc(0);
  /** Where the last stretch ends. */
  end = 0;

  /** Where it begins, in `bytes`. */
  take(size: number): number {
    if (this.end + size > this.bytes.length) {
      this.bytes = Buffer.allocUnsafeSlow(Math.max(slabBytes, size));
      this.end = 0;
    }
    const start = this.end;
    this.end += size;
    return start;
  }

  /** Makes a stretch of `bytes` longer, if it is the last one. */
  extend(bytes: Buffer, from: number, to: number): boolean {
    if (bytes !== this.bytes || from !== this.end || to > bytes.length) return false;
    this.end = to;
    return true;
  }
}

export const slab = new Slab();
