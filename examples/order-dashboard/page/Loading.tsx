/** What is seen during the first sync: how far it is, over the outlines of what comes. */
import { formatCount } from "./format.ts";
import type { FirstSync } from "./sync.ts";

export function Loading({ sync }: { readonly sync: FirstSync }) {
  return (
    <>
      <FirstSyncBar sync={sync} />
      <div className="summary" aria-hidden="true">
        <div className="card skeleton-chart">
          <Bone width="7rem" />
          <Bone width="11rem" tall />
          <div className="skeleton-bars">
            {bars.map((height, i) => (
              <i key={i} style={{ height: `${height}%` }} />
            ))}
          </div>
        </div>
        <div className="totals">
          {Array.from({ length: 6 }, (_, i) => (
            <div className="card total" key={i}>
              <Bone width="60%" />
              <Bone width="45%" tall />
              <Bone width="70%" />
            </div>
          ))}
        </div>
      </div>
      <div className="card skeleton-rows" aria-hidden="true">
        {Array.from({ length: 9 }, (_, i) => (
          <div className="skeleton-row" key={i}>
            <Bone width="3.5rem" />
            <Bone width={`${8 + ((i * 5) % 6)}rem`} />
            <Bone width={`${9 + ((i * 3) % 7)}rem`} />
            <Bone width="4.5rem" />
            <Bone width="6rem" />
          </div>
        ))}
      </div>
    </>
  );
}

const bars = [34, 52, 41, 63, 48, 72, 58, 44, 67, 80, 61, 49, 74, 88, 66, 53, 70, 59, 82, 64, 47, 68, 76, 55];

function FirstSyncBar({ sync: { rows, estimatedRows } }: { readonly sync: FirstSync }) {
  const isCopying = estimatedRows > 0;
  const progress = isCopying && { "aria-valuenow": rows, "aria-valuemin": 0, "aria-valuemax": estimatedRows };
  return (
    <div className="card first-sync">
      <div className="first-sync-text">
        <strong>{isCopying ? "Copying the shop into this browser" : "Starting Postgres in this browser"}</strong>
        {isCopying && (
          <span className="muted numbers">{`${formatCount(rows)} of about ${formatCount(estimatedRows)} rows`}</span>
        )}
      </div>
      <div className="bar-track" role="progressbar" aria-label="First sync" {...progress}>
        <div style={{ scale: `${isCopying ? rows / estimatedRows : 0.12} 1` }} data-waiting={!isCopying || undefined} />
      </div>
    </div>
  );
}

function Bone({ width, tall = false }: { readonly width: string; readonly tall?: boolean }) {
  return <span className={tall ? "bone bone-tall" : "bone"} style={{ width }} />;
}
