/** Short notes about what did not work, spoken by screen readers too. They leave by themselves, or when dismissed. */
import { createContext, type ReactNode, useCallback, useContext, useState } from "react";

interface Toast {
  readonly id: number;
  readonly text: string;
}

const shownMs = 6_000;

const Notify = createContext<(text: string) => void>(() => undefined);

/** Call the result with a sentence to show it. */
export function useNotify(): (text: string) => void {
  return useContext(Notify);
}

let lastId = 0;

export function Toasts({ children }: { readonly children: ReactNode }) {
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const dismiss = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const notify = useCallback(
    (text: string) => {
      const id = ++lastId;
      setToasts((all) => [...all, { id, text }]);
      setTimeout(() => dismiss(id), shownMs);
    },
    [dismiss],
  );
  return (
    <Notify value={notify}>
      {children}
      <div className="toasts" role="region" aria-label="Notices" aria-live="assertive">
        {toasts.map(({ id, text }) => (
          <div className="toast" key={id}>
            <span>{text}</span>
            <button type="button" className="toast-close" aria-label="Dismiss" onClick={() => dismiss(id)}>
              <svg viewBox="0 0 16 16" aria-hidden="true">
                <path d="M4 4l8 8M12 4l-8 8" />
              </svg>
            </button>
          </div>
        ))}
      </div>
    </Notify>
  );
}
