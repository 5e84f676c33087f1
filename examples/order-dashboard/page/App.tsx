/** The page from top to bottom. Until the first sync is complete its places are held by skeletons of the same size. */
import { useState } from "react";
import { Bestsellers } from "./Bestsellers.tsx";
import { Header } from "./Header.tsx";
import { Loading } from "./Loading.tsx";
import { NewOrders } from "./NewOrders.tsx";
import { Orders } from "./Orders.tsx";
import { Refused } from "./Refused.tsx";
import { Revenue } from "./Revenue.tsx";
import type { Status } from "../statuses.ts";
import { StatusTotals } from "./StatusTotals.tsx";
import { type FirstSync, useFirstSync } from "./sync.ts";
import { TryIt } from "./TryIt.tsx";

export function App() {
  const sync = useFirstSync();
  return (
    <>
      <Header isReady={sync.isReady && !sync.refusal} />
      {!sync.refusal && <NewOrders />}
      <main className="page">
        <Content sync={sync} />
      </main>
    </>
  );
}

function Content({ sync }: { readonly sync: FirstSync }) {
  if (sync.refusal) return <Refused refusal={sync.refusal} />;
  return sync.isReady ? <Dashboard /> : <Loading sync={sync} />;
}

function Dashboard() {
  const [status, setStatus] = useState<Status>();
  return (
    <>
      <div className="summary">
        <Revenue />
        <StatusTotals chosen={status} onChoose={setStatus} />
      </div>
      <Bestsellers />
      <TryIt />
      <Orders status={status} onAnyStatus={() => setStatus(undefined)} />
    </>
  );
}
