/** Whether the browser may throw a site's stored data away when it is short of room. */

/**
 * Asks the browser to keep them. Some ask the user, others decide by themselves; workers may not ask, so it is called in
 * a page. Resolves with what it has come to; a browser that cannot be asked has not agreed.
 * https://developer.mozilla.org/docs/Web/API/StorageManager/persist
 */
export async function askToPersist(): Promise<boolean> {
  const storage = (globalThis.navigator as Navigator | undefined)?.storage;
  try {
    return (await storage?.persisted?.()) || (await storage?.persist?.()) || false;
  } catch {
    return false;
  }
}
