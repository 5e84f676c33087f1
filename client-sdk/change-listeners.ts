/** Who listens to which kind of change. */
import type { ChangeEvent, ChangeType } from "./channel.ts";
import { Listeners } from "./listeners.ts";
import type { Row } from "./row.ts";

export class ChangeListeners {
  private readonly byType = new Map<ChangeType | "*", Listeners<[ChangeEvent<Row>]>>();

  add(type: ChangeType | "*", listener: (event: ChangeEvent<Row>) => void): void {
    const listeners = this.byType.get(type) ?? new Listeners();
    this.byType.set(type, listeners);
    listeners.add(listener);
  }

  emit(event: ChangeEvent<Row>): void {
    this.byType.get(event.type)?.emit(event);
    this.byType.get("*")?.emit(event);
  }

  clear(): void {
    this.byType.clear();
  }
}
