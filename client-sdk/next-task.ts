/**
 * Lets everything else that waits for this thread come first: rendering, input, timers, messages. A timer would wait four
 * milliseconds for it in a browser. https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html#timers
 */
export function nextTask(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
