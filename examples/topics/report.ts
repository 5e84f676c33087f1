/**
 * A report that is fetched over HTTP and computed elsewhere, asked for again exactly when a table changed that it is made of, or
 * when somebody says so: `select walcast.revalidate('{report}')`.
 *
 *     node --conditions=@walcast/source examples/topics/report.ts ws://localhost:4437 http://localhost:3000/report
 */
import { type QueryClient, QueryObserver } from "@tanstack/query-core";
import { type Client, createClient } from "@walcast/client";
import { bindQueryClient } from "@walcast/client/tanstack-query";

/** Calls `show` with every report. Returns what ends it. */
export function watchReport(
  queryClient: QueryClient,
  client: Pick<Client, "onRevalidate">,
  fetchReport: () => Promise<unknown>,
  show: (report: unknown) => void,
): () => void {
  const unbind = bindQueryClient(queryClient, client);
  const report = new QueryObserver(queryClient, {
    queryKey: ["report"],
    queryFn: fetchReport,
    staleTime: Infinity,
    // What it is made of, beside the key `report` that it has anyway.
    meta: { revalidate: ["table:orders"] },
  });
  const stop = report.subscribe(({ data, isFetching }) => {
    if (data !== undefined && !isFetching) show(data);
  });
  return () => {
    stop();
    unbind();
  };
}

if (import.meta.main) {
  const { QueryClient } = await import("@tanstack/query-core");
  const [url, reportUrl] = process.argv.slice(2) as [string, string];
  const fetchReport = async (): Promise<unknown> => (await fetch(reportUrl)).json();
  watchReport(new QueryClient(), createClient({ url }), fetchReport, console.log);
}
