/** The thread of vetting.ts: says of each condition whether it would be refused. */
import assert from "node:assert/strict";
import { constants, setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { WalcastError } from "../errors.ts";
import { loadParser, vetWhere } from "../shapes/where.ts";
import type { Answer, Question, Verdict } from "./vetting.ts";

assert(parentPort, "this runs as a thread");
const port = parentPort;
// What it does can wait, and on a machine with few cores it would be in the way. Elsewhere this means the whole process.
if (process.platform === "linux") setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
await loadParser();
port.on("message", (question: Question) => port.postMessage(answerTo(question)));

function answerTo(question: Question): Answer {
  const before = process.threadCpuUsage();
  const verdict = verdictOn(question);
  const { user, system } = process.threadCpuUsage(before);
  return { ...verdict, cpuMs: (user + system) / 1000 };
}

function verdictOn({ where, params, table, readable }: Question): Verdict {
  const isVisible = (position: number): boolean => !readable || readable.includes(table.columns[position]!.name);
  try {
    return { kind: "passed", vetted: vetWhere(where, params, table, isVisible) };
  } catch (error) {
    if (error instanceof WalcastError) return { kind: "refused", error: error.toJSON() };
    return { kind: "failed", message: error instanceof Error ? `${error.stack}` : String(error) };
  }
}
