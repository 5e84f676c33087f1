/** What was made for the texts that were asked for last, at most `max` of them: the one asked for longest ago makes room. */
export class Recent<V extends object | string> {
  private readonly values = new Map<string, V>();
  private readonly max: number;

  constructor(max: number) {
    this.max = max;
  }

  has(key: string): boolean {
    return this.values.has(key);
  }

  get(key: string, make: () => V): V {
    if (key.length > keyLengthMax) return make();
    const value = this.values.get(key) ?? make();
    this.values.delete(key);
    this.values.set(key, value);
    for (const oldest of this.values.size > this.max ? this.values.keys().take(1) : []) this.values.delete(oldest);
    return value;
  }
}

/** Clients choose the texts: longer ones are nobody else's either, and would take memory while nobody uses them. */
const keyLengthMax = 2000;
