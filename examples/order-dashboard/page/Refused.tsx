/** What is seen instead of the shop where the server says that whoever looks may not see it: why, and nothing that seems to be on its way. */
import type { Refusal } from "./sync.ts";

export function Refused({ refusal: { isDenied, reason, hint } }: { readonly refusal: Refusal }) {
  return (
    <section className="card nothing" role="alert" aria-labelledby="refused-title">
      <svg viewBox="0 0 48 48" aria-hidden="true">
        <rect x="12" y="22" width="24" height="17" rx="3" />
        <path d="M17 22v-6a7 7 0 0 1 14 0v6" />
      </svg>
      <h2 id="refused-title">{isDenied ? "You may not see this shop" : "This shop cannot be shown"}</h2>
      <p>{reason}</p>
      {hint && <p className="muted">{hint}</p>}
      <p className="muted">
        {isDenied ? "Ask whoever runs it for access." : "Whoever runs it finds more in the server’s log."}
      </p>
    </section>
  );
}
