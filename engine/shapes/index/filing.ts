/**
 * Puts a predicate with thousands of places into the index, or takes it out, some places at a time. Until it is there, it is tried
 * for every row, and from the moment on in which nobody wants it any more it is tried for none.
 */
import type { Entry } from "./bucket.ts";
import type { Place } from "./cover.ts";

/** So many places take about a tenth of a millisecond. */
const atOnce = 100;

export class Filing<T> {
  readonly entry: Entry<T>;
  readonly places: readonly Place[];
  isWanted = true;
  isUnderWay = false;
  private filed = 0;

  constructor(entry: Entry<T>, places: readonly Place[]) {
    this.entry = entry;
    this.places = places;
  }

  get isDone(): boolean {
    return this.filed === (this.isWanted ? this.places.length : 0);
  }

  /** Some more of it. */
  step(file: (places: readonly Place[]) => void, unfile: (places: readonly Place[]) => void): void {
    const to = this.isWanted ? Math.min(this.filed + atOnce, this.places.length) : Math.max(this.filed - atOnce, 0);
    if (to > this.filed) file(this.places.slice(this.filed, to));
    else unfile(this.places.slice(to, this.filed));
    this.filed = to;
  }
}
