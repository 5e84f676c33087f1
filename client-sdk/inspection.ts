/** What a developer sees of the shapes. */
import { formatLsn, type Lsn, type ErrorJson, type ShapeRequest } from "../engine/protocol.ts";
import type { ShapeHandle, ShapeProgress, ShapeStatus } from "./shape.ts";

export interface ShapeInspection extends ShapeRequest {
  readonly status: ShapeStatus;
  /** Of its first load. */
  readonly progress: ShapeProgress;
  readonly error: ErrorJson | undefined;
  /** That it holds: those that came with its load, until `inspect` has had them counted, which it does in the background. */
  readonly rows: number;
  /** Of its local table, indexes included, and of all shapes that share it. Until that is measured, those that came. */
  readonly bytes: number;
  /** What its rows are true at. Undefined before there are any, and for those of an earlier process until they are fresh. */
  readonly position: string | undefined;
  /** From there to what the server was last heard to have, in bytes of its write-ahead log. */
  readonly lagBytes: number | undefined;
}

export interface Size {
  readonly rows: number;
  readonly bytes: number;
}

export function inspectShape(shape: ShapeHandle, size: Size | undefined, shown: Lsn, server: Lsn): ShapeInspection {
  const { request, status, progress, error } = shape;
  const at = status === "ready" ? shown : shape.leftOffAt;
  return {
    ...request,
    status,
    progress,
    error: error?.toJSON(),
    rows: progress.rows,
    bytes: progress.bytes,
    ...size,
    position: at === undefined ? undefined : formatLsn(at),
    lagBytes: at === undefined ? undefined : Math.max(0, Number(server - at)),
  };
}
