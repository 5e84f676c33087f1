/**
 * `<walcast-inspector>`: looks at its client while it is open, and only then. What has not changed is left alone, so that it can be
 * selected, scrolled and read out in peace.
 */
import type { Inspection } from "../index.ts";
import { style } from "./style.ts";
import { type Cell, lookOfStatus, summaryOf, type View, viewsOf } from "./views.ts";

/** A client, here or in a worker. */
export interface Inspectable {
  inspect(): Inspection | Promise<Inspection>;
}

const LOOK_EVERY_MS = 500;

// Servers import what they do not show.
const Base = globalThis.HTMLElement ?? (Object as unknown as typeof HTMLElement);

export class WalcastInspector extends Base {
  static readonly observedAttributes = ["open"];
  client: Inspectable | undefined;
  private readonly root = this.attachShadow({ mode: "open" });
  private readonly parts = build();
  private chosen = "shapes";
  private timer: ReturnType<typeof setInterval> | undefined;
  /** What each part was made of. */
  private readonly shown = new Map<Element, string>();
  private focusBefore: Element | null = null;

  get open(): boolean {
    return this.hasAttribute("open");
  }

  set open(isOpen: boolean) {
    this.toggleAttribute("open", isOpen);
  }

  connectedCallback(): void {
    if (!this.root.hasChildNodes()) this.assemble();
    addEventListener("keydown", this.onPageKey);
    if (this.open) this.start();
  }

  disconnectedCallback(): void {
    removeEventListener("keydown", this.onPageKey);
    this.stop();
  }

  attributeChangedCallback(): void {
    if (this.open && this.isConnected) this.start();
    else this.stop();
  }

  /** Looks now. */
  async refresh(): Promise<void> {
    const inspection = await this.client?.inspect();
    if (inspection) this.show(inspection);
  }

  private assemble(): void {
    const { section, close, tabs } = this.parts;
    this.root.append(element("style", {}, style), section);
    close.addEventListener("click", () => this.leave());
    section.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.leave();
    });
    tabs.addEventListener("keydown", (event) => this.onTabKey(event));
  }

  private start(): void {
    this.stop();
    void this.refresh();
    this.timer = setInterval(() => {
      if (document.visibilityState === "visible") void this.refresh();
    }, LOOK_EVERY_MS);
  }

  private stop(): void {
    clearInterval(this.timer);
  }

  // ── The keyboard ───────────────────────────────────────────────────────────────────────────────────────────────────

  private readonly onPageKey = (event: KeyboardEvent): void => {
    // The key's place: with Alt some systems write another character.
    if (!event.ctrlKey || !event.altKey || event.code !== "KeyW") return;
    event.preventDefault();
    if (this.open) this.leave();
    else void this.enter();
  };

  private async enter(): Promise<void> {
    this.focusBefore = document.activeElement;
    this.open = true;
    await this.refresh();
    this.tab(this.chosen)?.focus();
  }

  /** The focus goes back to where it came from. */
  private leave(): void {
    this.open = false;
    if (this.focusBefore instanceof HTMLElement) this.focusBefore.focus();
    this.focusBefore = null;
  }

  /** https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ */
  private onTabKey(event: KeyboardEvent): void {
    const tabs = [...this.parts.tabs.children] as HTMLElement[];
    const at = tabs.findIndex(({ id }) => id === this.chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs.at(to % tabs.length)!;
    this.choose(next.id);
    next.focus();
  }

  private choose(id: string): void {
    this.chosen = id;
    this.parts.scroll.scrollTop = 0;
    void this.refresh();
  }

  private tab(id: string): HTMLElement | null {
    return this.root.getElementById(id);
  }

  // ── What is seen ───────────────────────────────────────────────────────────────────────────────────────────────────

  private show(inspection: Inspection): void {
    const { status, summary, tabs, scroll } = this.parts;
    const views = viewsOf(inspection);
    const view = views.find(({ id }) => id === this.chosen)!;
    this.renew(status, [inspection.status], () => [
      element("span", { class: lookOfStatus(inspection.status) }, inspection.status),
    ]);
    const facts = summaryOf(inspection);
    this.renew(summary, facts, () =>
      facts.map(([label, value]) => element("div", {}, element("dt", {}, label), element("dd", {}, value))),
    );
    this.showTabs(tabs, views);
    scroll.setAttribute("aria-labelledby", this.chosen);
    this.renew(scroll, view, () => [
      view.rows.length > 0 ? tableOf(view) : element("p", { class: "empty" }, view.empty),
    ]);
  }

  /** They stay the same elements, of which one may have the focus. */
  private showTabs(tabs: HTMLElement, views: readonly View[]): void {
    for (const { id, label, count } of views) {
      const tab = this.tab(id) ?? this.addTab(tabs, id, label);
      const isChosen = id === this.chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      this.renew(tab.lastElementChild!, [count], () => [count.toLocaleString()]);
    }
  }

  private addTab(tabs: HTMLElement, id: string, label: string): HTMLElement {
    const tab = element(
      "button",
      { role: "tab", id, type: "button", "aria-controls": "view" },
      label,
      element("span", { class: "count" }),
    );
    tab.addEventListener("click", () => this.choose(id));
    tabs.append(tab);
    return tab;
  }

  private renew(part: Element, of: unknown, make: () => readonly (Node | string)[]): void {
    const text = JSON.stringify(of);
    if (this.shown.get(part) === text) return;
    this.shown.set(part, text);
    part.replaceChildren(...make());
  }
}

interface Parts {
  readonly section: HTMLElement;
  readonly status: HTMLElement;
  readonly summary: HTMLElement;
  readonly close: HTMLElement;
  readonly tabs: HTMLElement;
  readonly scroll: HTMLElement;
}

function build(): Parts {
  const status = element("span", { role: "status" });
  const summary = element("dl", {});
  const close = element("button", { class: "close", type: "button" }, "Close ", element("kbd", {}, "Esc"));
  const tabs = element("div", { role: "tablist", "aria-label": "What to inspect" });
  const scroll = element("div", { class: "scroll", role: "tabpanel", id: "view", tabindex: "0" });
  const header = element("header", {}, element("h2", {}, "Walcast"), status, summary, close);
  const section = element("section", { "aria-label": "Walcast inspector" }, header, tabs, scroll);
  return { section, status, summary, close, tabs, scroll };
}

function tableOf({ label, columns, numbers, rows }: View): HTMLElement {
  const heads = columns.map((column) =>
    element("th", { scope: "col", ...(numbers.has(column) ? { class: "number" } : {}) }, column),
  );
  const body = rows.map((cells) => element("tr", {}, ...cells.map(cellOf)));
  return element(
    "table",
    { "aria-label": label },
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...body),
  );
}

function cellOf({ text, detail, look }: Cell): HTMLElement {
  const more = detail === undefined ? [] : [element("span", { class: "detail" }, detail)];
  return element("td", look ? { class: look } : {}, text, ...more);
}

function element(
  tag: string,
  attributes: Readonly<Record<string, string>>,
  ...children: (Node | string)[]
): HTMLElement {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
