/**
 * A set of callbacks. One that throws neither stops the others nor the replica: its error is reported where the
 * platform reports errors nobody caught.
 */
export class Listeners<Arguments extends readonly unknown[]> {
  private readonly callbacks = new Set<(...args: Arguments) => void>();

  get size(): number {
    return this.callbacks.size;
  }

  /** Returns what removes it again. The same function may be added twice: each addition counts for itself. */
  add(callback: (...args: Arguments) => void): () => void {
    const own = (...args: Arguments): void => callback(...args);
    this.callbacks.add(own);
    return () => void this.callbacks.delete(own);
  }

  emit(...args: Arguments): void {
    for (const callback of [...this.callbacks]) call(callback, args);
  }

  clear(): void {
    this.callbacks.clear();
  }
}

/** Calls an application's function on its own account. */
export function call<Arguments extends readonly unknown[]>(
  callback: (...args: Arguments) => void,
  args: Arguments,
): void {
  try {
    callback(...args);
  } catch (error) {
    if (typeof globalThis.reportError === "function") globalThis.reportError(error);
    else console.error(error);
  }
}

/** A promise and its two ends. Nobody has to await it: an unawaited rejection is not an unhandled one. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;

  constructor() {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    promise.catch(() => {});
    this.promise = promise;
    this.resolve = resolve;
    this.reject = reject;
  }
}
