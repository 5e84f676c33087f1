/** Short notes, spoken by screen readers too: what did not work at once, what is new when they are done. They leave by themselves. */
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";

interface Toast {
  readonly id: number;
  readonly text: string;
  readonly isNews: boolean;
}

const shownMs = 6_000;
/** Where more come, the oldest leave. */
const shownMax = 3;

interface Say {
  /** Something did not work. */
  readonly notify: (text: string) => void;
  /** Something happened. */
  readonly say: (text: string) => void;
}

const Notices = createContext<Say>({ notify: () => undefined, say: () => undefined });

/** Call the result with a sentence to show it as what did not work. */
export function useNotify(): (text: string) => void {
  return useContext(Notices).notify;
}

/** Call the result with a sentence to show it as news. */
export function useSay(): (text: string) => void {
  return useContext(Notices).say;
}

let lastId = 0;

export function Toasts({ children }: { readonly children: ReactNode }) {
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const dismiss = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const notices = useMemo(() => {
    const show = (text: string, isNews: boolean) => {
      const id = ++lastId;
      setToasts((all) => [...all, { id, text, isNews }].slice(-shownMax));
      setTimeout(() => dismiss(id), shownMs);
    };
    return { notify: (text: string) => show(text, false), say: (text: string) => show(text, true) };
  }, [dismiss]);
  const errors = toasts.filter(({ isNews }) => !isNews);
  const news = toasts.filter(({ isNews }) => isNews);
  return (
    <Notices value={notices}>
      {children}
      <div className="toasts" role="region" aria-label="Notices">
        <Notes toasts={news} live="polite" onDismiss={dismiss} />
        <Notes toasts={errors} live="assertive" onDismiss={dismiss} />
      </div>
    </Notices>
  );
}

interface Notes {
  readonly toasts: readonly Toast[];
  readonly live: "polite" | "assertive";
  readonly onDismiss: (id: number) => void;
}

/** Always there, also empty: screen readers listen only to what they know. */
function Notes({ toasts, live, onDismiss }: Notes) {
  return (
    <div aria-live={live}>
      {toasts.map(({ id, text }) => (
        <div className="toast" key={id}>
          <span>{text}</span>
          <button type="button" className="toast-close" aria-label="Dismiss" onClick={() => onDismiss(id)}>
            <svg viewBox="0 0 16 16" aria-hidden="true">
              <path d="M4 4l8 8M12 4l-8 8" />
            </svg>
          </button>
        </div>
      ))}
    </div>
  );
}
