/** The inspector's looks: quiet, legible, light or dark as the page's scheme is, and out of the page's way. */
export const style = `
:host {
  color-scheme: light dark;
  position: fixed;
  inset: auto 0 0;
  z-index: 2147483000;
  display: block;
  height: var(--walcast-inspector-height, min(45vh, 24rem));
  font: 13px/1.45 system-ui, sans-serif;
  --ink: light-dark(#1b2326, #e6ebec);
  --soft: light-dark(#58666b, #9dabb0);
  --paper: light-dark(#ffffff, #14191b);
  --shade: light-dark(#f3f5f5, #1c2326);
  --line: light-dark(#d9dfe0, #313a3e);
  --accent: light-dark(#0a6f77, #56c2cb);
  --good: light-dark(#18793c, #5fd08a);
  --busy: light-dark(#8a5a00, #f0b651);
  --bad: light-dark(#b3261e, #ff8a80);
}
:host(:not([open])) { display: none; }
* { box-sizing: border-box; }
section {
  display: flex;
  flex-direction: column;
  height: 100%;
  color: var(--ink);
  background: var(--paper);
  border-top: 1px solid var(--line);
  box-shadow: 0 -8px 24px rgb(0 0 0 / 0.12);
}
header {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 4px 20px;
  padding: 8px 16px;
  background: var(--shade);
}
h2 { margin: 0; font-size: 13px; font-weight: 650; }
dl { display: flex; flex-wrap: wrap; gap: 2px 20px; margin: 0; }
dl div { display: flex; gap: 6px; }
dt { color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
button {
  font: inherit;
  color: inherit;
  background: none;
  border: 0;
  border-radius: 6px;
  cursor: pointer;
}
button:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
.close { margin-inline-start: auto; padding: 2px 8px; }
.close:hover, [role="tab"]:hover { background: var(--line); }
kbd { font: inherit; color: var(--soft); }
[role="tablist"] { display: flex; gap: 2px; padding: 4px 8px 0; border-bottom: 1px solid var(--line); overflow-x: auto; }
[role="tab"] { flex: none; padding: 6px 10px; border-radius: 6px 6px 0 0; color: var(--soft); border-bottom: 2px solid transparent; }
[role="tab"][aria-selected="true"] { color: var(--ink); border-bottom-color: var(--accent); }
.count { margin-inline-start: 6px; font-size: 11px; font-variant-numeric: tabular-nums; color: var(--soft); }
.scroll { flex: 1; overflow: auto; overscroll-behavior: contain; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: 6px 16px; text-align: start; vertical-align: top; border-bottom: 1px solid var(--line); }
th {
  position: sticky;
  top: 0;
  font-size: 11px;
  font-weight: 600;
  color: var(--soft);
  background: var(--paper);
  white-space: nowrap;
}
tbody tr:hover { background: var(--shade); }
.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
.code { font-family: ui-monospace, monospace; font-size: 12px; min-width: 16ch; max-width: 60ch; overflow-wrap: anywhere; }
.detail { display: block; font-size: 12px; color: var(--soft); max-width: 60ch; }
.good, .busy, .bad { white-space: nowrap; }
.good::before, .busy::before, .bad::before {
  content: "";
  display: inline-block;
  width: 8px;
  height: 8px;
  margin-inline-end: 7px;
  border-radius: 50%;
  background: var(--good);
}
.busy::before { background: var(--busy); border-radius: 2px; }
.bad::before { background: var(--bad); border-radius: 2px; rotate: 45deg; }
.bad .detail { white-space: normal; }
@media (max-width: 40rem) {
  header { padding: 6px 12px; }
  dl { order: 1; flex-basis: 100%; flex-wrap: nowrap; overflow-x: auto; white-space: nowrap; }
  th, td { padding: 6px 12px; }
}
.empty { margin: 0; padding: 16px; color: var(--soft); }
`;
