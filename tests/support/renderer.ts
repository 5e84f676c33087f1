/** The operating system's process behind a page: the one whose main thread runs when the page does. Linux only, as our Chromium is. */
import { readdirSync, readFileSync } from "node:fs";
import type { Page } from "playwright-core";

const BURN_MS = 100;
/** Hundredths of a second that it must have had before all others: on a busy machine it has little of the time that it burns. */
const ticksAhead = 10;

export async function processOf(page: Page): Promise<number> {
  for (let found = await busiestWith(page); ;) {
    const again = await busiestWith(page);
    // Another may have been busiest by chance, as when it has only just begun.
    if (again === found) return found;
    found = again;
  }
}

async function busiestWith(page: Page): Promise<number> {
  const before = new Map(renderers().map(({ pid, ticks }) => [pid, ticks]));
  for (;;) {
    await page.evaluate((ms) => {
      for (const end = performance.now() + ms; performance.now() < end;);
    }, BURN_MS);
    const used = renderers().map(({ pid, ticks }) => ({ pid, ticks: ticks - (before.get(pid) ?? ticks) }));
    const [most, next] = used.sort((a, b) => b.ticks - a.ticks);
    if (most && most.ticks >= 2 * (next?.ticks ?? 0) + ticksAhead) return most.pid;
  }
}

/** All of it: the page, its workers, and what Chromium does for them. Returns what lets it go on. */
export function stop(pid: number): () => void {
  let isStopped: boolean = process.kill(pid, "SIGSTOP");
  return () => {
    if (isStopped) process.kill(pid, "SIGCONT");
    isStopped = false;
  };
}

interface Running {
  readonly pid: number;
  readonly parent: number;
  /** Of the processor, that the main thread had: what workers take says nothing about their page. */
  readonly ticks: number;
}

/** Of the browsers that this process has started. */
function renderers(): Running[] {
  const running = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap(read);
  const parents = new Map(running.map(({ pid, parent }) => [pid, parent]));
  const isOurs = (pid: number): boolean => pid === process.pid || (parents.has(pid) && isOurs(parents.get(pid)!));
  return running.filter(({ pid, parent }) => isOurs(parent) && commandOf(pid).includes("--type=renderer"));
}

/** https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, from what comes after the name. */
function read(name: string): Running[] {
  try {
    const fields = readFileSync(`/proc/${name}/task/${name}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return [{ pid: Number(name), parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) }];
  } catch {
    // It has ended meanwhile.
    return [];
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
