/**
 * Answers that have to be as new as the question: who asks while one is looked up gets the next one's, with all who asked
 * meanwhile. So however many ask at once, there is one look-up at a time.
 */
export class InTurn<T> {
  private readonly running = new Map<string, Promise<T>>();
  private readonly next = new Map<string, Promise<T>>();

  get(key: string, look: () => Promise<T>): Promise<T> {
    const next = this.next.get(key);
    if (next) return next;
    const running = this.running.get(key);
    if (!running) return this.start(key, look);
    const after = (): Promise<T> => {
      this.next.delete(key);
      return this.start(key, look);
    };
    const waiting = running.then(after, after);
    this.next.set(key, waiting);
    return waiting;
  }

  private start(key: string, look: () => Promise<T>): Promise<T> {
    const started = look().finally(() => this.running.delete(key));
    this.running.set(key, started);
    return started;
  }
}
