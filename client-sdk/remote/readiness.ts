/** A promise for something that comes once. Where it was refused and comes after all, whoever asks from then on gets another one. */
import { Deferred } from "../listeners.ts";

export class Readiness<T> {
  private deferred = new Deferred<T>();
  private state: "waiting" | "resolved" | "rejected" = "waiting";

  get promise(): Promise<T> {
    return this.deferred.promise;
  }

  resolve(value: T): void {
    this.begin();
    this.state = "resolved";
    this.deferred.resolve(value);
  }

  reject(error: unknown): void {
    if (this.state === "waiting") this.state = "rejected";
    this.deferred.reject(error);
  }

  /** It may come after all. */
  begin(): void {
    if (this.state !== "rejected") return;
    this.state = "waiting";
    this.deferred = new Deferred();
  }
}
