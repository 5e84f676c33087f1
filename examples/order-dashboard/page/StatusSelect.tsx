/**
 * An order's status, and the way to change it: asks the shop's server to write, then waits for the row to come back.
 * The choice is shown as pending until it does, and goes back to what is true when the server refuses.
 */
import { useEffect, useState } from "react";
import { type Status, statuses } from "../statuses.ts";
import { setOrderStatus } from "./api.ts";
import { useNotify } from "./Toasts.tsx";

export function StatusSelect({ id, status }: { readonly id: number; readonly status: Status }) {
  const [pending, setPending] = useState<Status>();
  const notify = useNotify();
  useEffect(() => setPending(undefined), [status]);
  async function choose(next: Status) {
    setPending(next);
    await setOrderStatus(id, next).catch((error: Error) => {
      setPending(undefined);
      notify(`Order ${id} stays ${status}. ${error.message}`);
    });
  }
  return (
    <span className="status" data-status={status} data-pending={pending}>
      <i className="dot" />
      {/* The text lies under the select, which is transparent: a native list, in our own clothes. */}
      <span className="status-text">{status}</span>
      <svg viewBox="0 0 12 12" aria-hidden="true">
        <path d="M3 4.5l3 3 3-3" />
      </svg>
      <select
        aria-label={`Status of order ${id}`}
        aria-busy={pending !== undefined}
        value={pending ?? status}
        onChange={(event) => void choose(event.target.value as Status)}
      >
        {statuses.map((choice) => (
          <option key={choice} value={choice}>
            {choice}
          </option>
        ))}
      </select>
    </span>
  );
}
