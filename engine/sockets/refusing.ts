/**
 * What strangers send is read without noting where in our code it was refused: nobody asks, and V8 takes longer for that note than for the
 * rest of the error. `read` may run twice: what it throws that is no refusal is a mistake of ours, whose place has to be known.
 */
import { WalcastError } from "../errors.ts";

export function refusing<Result>(read: () => Result): Result {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return read();
  } catch (error) {
    if (error instanceof WalcastError) throw error;
    Error.stackTraceLimit = stackTraceLimit;
    return read();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
