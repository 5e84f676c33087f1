/** The report, fetched over HTTP when the page opens and again after commits that concern it. Nothing polls. */
import type { Client } from "@walcast/client";
import { useClient } from "@walcast/client/react";
import { useEffect, useState } from "react";
import type { Bestseller } from "../server/report.ts";
import { fetchReport } from "./api.ts";
import type { Shop } from "./client.ts";

export interface Report {
  readonly bestsellers: readonly Bestseller[];
  readonly fetchedAt: Date;
}

/** Every commit that changes the table it is made of names the first; anybody the second: `SELECT walcast.revalidate('{report}')`. */
const keys = ["table:order_items", "report"];

/** Commits that come together are one reason to ask. */
const burstMs = 100;
const retryMs = 2_000;

/** Undefined until it is here. */
export function useReport(): Report | undefined {
  const client = useClient<Shop>();
  const [report, setReport] = useState<Report>();
  useEffect(() => keepFetching(client, setReport), [client]);
  return report;
}

/** Returns what ends it. */
function keepFetching(client: Client<Shop>, show: (report: Report) => void): () => void {
  let isDue = false;
  let isAsking = false;
  const over = new AbortController();
  const stop = client.onRevalidate(keys, () => void ask());
  void ask();
  return () => {
    over.abort();
    stop();
  };

  /** One request at a time; what is named during one is a reason for the next. */
  async function ask(): Promise<void> {
    isDue = true;
    if (isAsking) return;
    isAsking = true;
    for (let waitMs = burstMs; isDue && !over.signal.aborted;) {
      await pause(waitMs);
      isDue = false;
      const bestsellers = await fetchReport().catch(() => undefined);
      waitMs = bestsellers ? burstMs : retryMs;
      if (!bestsellers) isDue = true;
      else if (!over.signal.aborted) show({ bestsellers, fetchedAt: new Date() });
    }
    isAsking = false;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
