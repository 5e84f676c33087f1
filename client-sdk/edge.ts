/** What a connection needs of the world: a clock, timers, chance and sockets. Tests hand in others. */
export interface Edge {
  /** Milliseconds that never go back, unlike the time of day; on most systems they stand still while the device sleeps. */
  now(): number;
  /** Returns what stops it. */
  after(ms: number, work: () => void): () => void;
  random(): number;
  open(url: string, subprotocol: string): WebSocket;
}

/** A timer that is to run longer would fire at once. */
export const timerMsMax = 2 ** 31 - 1;

export const realEdge: Edge = {
  now: () => performance.now(),
  after(ms, work) {
    const timer = setTimeout(work, Math.min(ms, timerMsMax));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
  open: (url, subprotocol) => new WebSocket(url, subprotocol),
};

/** `ws://host:4437` → `ws://host:4437/v1/sync`; http and https work as well, a path of one's own (a proxy's) is kept. */
export function syncUrl(text: string): string {
  const url = new URL(text);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  if (!url.pathname.endsWith("/v1/sync")) url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/sync`;
  return url.href;
}
