/**
 * What the engine says about itself: JSON lines on standard output, readable ones on a terminal. Never a row's value, a
 * token or a password: of an error only its type, code, message and stack are written, because Postgres puts the values
 * of rows into `detail` and drivers put whole statements beside it; and where it is about a value, into the message itself.
 */
import { type DestinationStream, type Logger, pino, stdSerializers } from "pino";
import pretty from "pino-pretty";
import type { LogLevel } from "./config.ts";

export function createLogger(level: LogLevel, destination: DestinationStream = standardOutput()): Logger {
  return pino({ name: "walcast", level, serializers: { err: describeError } }, destination);
}

function standardOutput(): DestinationStream {
  if (!process.stdout.isTTY) return pino.destination({ dest: 1, sync: true });
  return pretty({ colorize: true, ignore: "pid,hostname,name", translateTime: "SYS:HH:MM:ss.l", sync: true });
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return stdSerializers.err(error as Error);
  const { code } = error as { code?: unknown };
  const namesValue = typeof code === "string" && aboutValues.test(code);
  const described: Record<string, unknown> = {
    type: error.constructor.name,
    message: namesValue ? "about a value, which is not repeated" : withoutPassword(error.message),
    stack: withoutPassword(namesValue ? framesOf(error) : (error.stack ?? "")),
  };
  if (typeof code === "string") described.code = code;
  if (error.cause !== undefined) described.cause = describeError(error.cause);
  return described;
}

/** SQLSTATE's classes of data exceptions and of violated constraints. https://www.postgresql.org/docs/current/errcodes-appendix.html */
const aboutValues = /^2[23][0-9A-Z]{3}$/;

function framesOf({ stack = "" }: Error): string {
  return stack
    .split("\n")
    .filter((line) => /^\s+at /.test(line))
    .join("\n");
}

/** `user:password@` in a connection string. */
function withoutPassword(text: string): string {
  return text.replace(/(\w+:\/\/[^\s:/@]*):[^\s@/]*@/g, "$1:…@");
}
