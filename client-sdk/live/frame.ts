/** The next moment at which a page is drawn; where nothing is drawn, a moment as near. */
const FRAME_MS = 16;

/** Returns what calls it off. */
export function onNextFrame(work: () => void): () => void {
  if (typeof globalThis.requestAnimationFrame === "function") {
    const frame = globalThis.requestAnimationFrame(work);
    return () => globalThis.cancelAnimationFrame(frame);
  }
  const timer = setTimeout(work, FRAME_MS);
  return () => clearTimeout(timer);
}
