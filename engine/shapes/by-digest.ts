/**
 * Values by digest: in 64 maps, by the digest's first character. A Map that has no more room is made anew, all of it at once, and
 * with half a million digests in it that takes a tenth of a second.
 */
export class ByDigest<V> {
  private readonly maps = new Map<number, Map<string, V>>();
  private count = 0;

  get size(): number {
    return this.count;
  }

  get(digest: string): V | undefined {
    return this.maps.get(digest.charCodeAt(0))?.get(digest);
  }

  /** The digest must not be there yet. */
  add(digest: string, value: V): void {
    const first = digest.charCodeAt(0);
    let map = this.maps.get(first);
    if (!map) this.maps.set(first, (map = new Map()));
    map.set(digest, value);
    this.count++;
  }

  delete(digest: string): void {
    if (this.maps.get(digest.charCodeAt(0))?.delete(digest)) this.count--;
  }

  *values(): Generator<V, void> {
    for (const map of this.maps.values()) yield* map.values();
  }
}
