/** The shop's name, the traffic switch, who is looking, and how the connection is. */
import { useLiveQuery, useStatus } from "@walcast/client/react";
import { useState, useSyncExternalStore } from "react";
import { setTraffic } from "./api.ts";
import { client } from "./client.ts";
import { useNotify } from "./Toasts.tsx";
import { Viewers } from "./Viewers.tsx";

export function Header({ isReady }: { readonly isReady: boolean }) {
  return (
    <header className="header">
      <div className="header-inner">
        <Mark />
        <div className="brand">
          <h1>Tern &amp; Tide</h1>
          <p className="muted">Live orders</p>
        </div>
        <div className="header-controls">
          {isReady && <TrafficSwitch />}
          <Viewers />
          <Connection />
        </div>
      </div>
    </header>
  );
}

function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" />
      <path d="M6 21c3.3 0 3.3-4 6.7-4s3.3 4 6.6 4 3.4-4 6.7-4M6 15c3.3 0 3.3-4 6.7-4s3.3 4 6.6 4 3.4-4 6.7-4" />
    </svg>
  );
}

/** Shows the row in Postgres, so it moves in every window, whoever switched it. */
function TrafficSwitch() {
  const { rows } = useLiveQuery<{ running: boolean }>("SELECT running FROM simulation");
  const [isSending, setSending] = useState(false);
  const notify = useNotify();
  const isOn = rows[0]?.running ?? false;
  async function toggle() {
    setSending(true);
    await setTraffic(!isOn).catch((error: Error) => notify(error.message));
    setSending(false);
  }
  return (
    <button
      type="button"
      role="switch"
      aria-checked={isOn}
      className="switch"
      aria-label="Simulate traffic"
      disabled={isSending}
      onClick={() => void toggle()}
    >
      <span className="switch-track">
        <span className="switch-thumb" />
      </span>
      <span>
        <span className="wide-only">Simulate </span>traffic
      </span>
    </button>
  );
}

const words = {
  live: "Live",
  "catching-up": "Catching up",
  connecting: "Connecting",
  offline: "Offline",
  closed: "Closed",
} as const;

/** Before the first row. */
const noPosition = "0/0";
const renewMs = 250;

/** It moves with every commit, whether or not that changed a row here: four times a second is enough to see it move. */
function usePosition(): string {
  return useSyncExternalStore(everyRenewal, () => client.position);
}

function everyRenewal(renew: () => void): () => void {
  const timer = setInterval(renew, renewMs);
  return () => clearInterval(timer);
}

function Connection() {
  const status = useStatus();
  const position = usePosition();
  return (
    <div
      className="connection"
      data-status={status}
      title={
        status === "offline"
          ? "The rows of this position stay readable."
          : "How far this browser's replica is in Postgres' write-ahead log."
      }
    >
      <span className="connection-dot" />
      <span role="status">{words[status]}</span>
      {position !== noPosition && <span className="connection-position numbers">{position}</span>}
    </div>
  );
}
