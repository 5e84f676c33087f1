/** What keeps a process alive: sockets, timers and the like. */

export function resources(): string[] {
  return process.getActiveResourcesInfo().sort();
}

/** What has come since. What was about to go then may be gone: a socket that a test before had closed, a timer that ran out. */
export function resourcesSince(before: readonly string[]): string[] {
  const known = [...before];
  return resources().filter((name) => {
    const at = known.indexOf(name);
    if (at >= 0) known.splice(at, 1);
    return at < 0;
  });
}
