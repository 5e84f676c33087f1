/**
 * When the device, the page or its network comes back. Timers were late or stood still until then, and a socket may be dead
 * without anybody having noticed. A worker has only `online`; Node has none of it.
 */
type Source = Pick<EventTarget, "addEventListener" | "removeEventListener">;

/** Returns what ends it. */
export function onWake(
  wake: () => void,
  scope: Partial<Source> & { readonly document?: Document } = globalThis,
): () => void {
  const { document } = scope;
  const whenVisible = (): void => {
    if (document?.visibilityState === "visible") wake();
  };
  const listened: readonly (readonly [Partial<Source> | undefined, string, () => void])[] = [
    [scope, "online", wake],
    // Also out of the back/forward cache, in which sockets are closed.
    [scope, "pageshow", wake],
    [document, "visibilitychange", whenVisible],
    // A page that was frozen runs again. https://wicg.github.io/page-lifecycle/
    [document, "resume", wake],
  ];
  for (const [source, event, listener] of listened) source?.addEventListener?.(event, listener);
  return () => {
    for (const [source, event, listener] of listened) source?.removeEventListener?.(event, listener);
  };
}
