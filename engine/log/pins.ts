/** Who needs what of the log for longer than retention would keep it: each from its position on, until it lets go. */
import type { Lsn } from "../protocol.ts";
import type { Pin } from "./log.ts";

export class Pins {
  private readonly pins = new Set<{ readonly from: Lsn }>();

  set(from: Lsn): Pin {
    const pin = { from };
    this.pins.add(pin);
    return { from, release: () => void this.pins.delete(pin) };
  }

  /** The lower of `position` and the lowest pin. */
  lowest(position: Lsn): Lsn {
    for (const { from } of this.pins) if (from < position) position = from;
    return position;
  }

  /** They hold nothing any more: whoever set them is told when it reads on. */
  lose(from: Lsn): void {
    for (const pin of this.pins) if (pin.from === from) this.pins.delete(pin);
  }

  clear(): void {
    this.pins.clear();
  }
}
