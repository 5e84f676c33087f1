/** A shape in a registry, with those who want it. There may be a million. */
import { type Few, withOne, withoutOne } from "./index/few.ts";

export class ShapeEntry<Subscriber, Of> {
  readonly shape: Of;
  /** Among the entries of its table. */
  number = -1;
  private wanting: Few<Subscriber> = undefined;

  constructor(shape: Of) {
    this.shape = shape;
  }

  get subscribers(): Iterable<Subscriber> {
    if (this.wanting instanceof Set) return this.wanting;
    return this.wanting === undefined ? [] : [this.wanting];
  }

  /** Nobody wants it any more. */
  get isIdle(): boolean {
    return this.wanting === undefined;
  }

  add(subscriber: Subscriber): void {
    this.wanting = withOne(this.wanting, subscriber);
  }

  delete(subscriber: Subscriber): void {
    this.wanting = withoutOne(this.wanting, subscriber);
  }
}
