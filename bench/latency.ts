/**
 * How long after COMMIT a change is at a client: from the acknowledgement at the writer to the bytes at a raw WebSocket,
 * and on to the callback of a live query. The writer, what is between, and the client are processes of their own, on one
 * clock. To the bytes, what is between is in turn the engine, pg-logical-replication's service feeding a socket, and the
 * floor; to the callback, the engine with a client, and the floor with a bare PGlite.
 */
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { type Course, type CourseParameters, onCourse } from "./latency/course.ts";
import { inTurn, median, percentile } from "./measure.ts";

interface Parameters extends CourseParameters {
  readonly rounds: number;
}

export const latency: Bench<Parameters> = {
  name: "latency",
  question:
    "How long after COMMIT was acknowledged are the row's bytes at a WebSocket client, and in a live query's rows?",
  notMeasured:
    "Load: one commit at a time, one row each, one client, one live query, loopback. The floor is a bare replication connection that feeds one send, and for callbacks a bare PGlite behind it; the peer is pg-logical-replication's service and plugin in the connection's place.",
  real: { rounds: 5, commits: 2_000, warmUp: 1_000, pauseMs: 1, callbackPauseMs: 3, rows: 10_000, top: 50 },
  brief: { rounds: 2 },
  small: { rounds: 1, commits: 12, warmUp: 2, pauseMs: 1, callbackPauseMs: 5, rows: 200, top: 12 },
  run,
};

function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  return onCourse(parameters, async (course, postgres) => {
    return figures(await measure(course, parameters, progress), { postgres, ...parameters });
  });
}

type Contender = "ours" | "service" | "floor" | "callback" | "callbackFloor";
/** Per contender and round, the latencies in ms. */
type Latencies = Readonly<Record<Contender, readonly (readonly number[])[]>>;

/** Every round starts fresh processes, so a round that only warms up would warm nothing. */
function measure(course: Course, { commits, rounds }: Parameters, progress: Progress): Promise<Latencies> {
  const announced = (name: string, run: () => Promise<number[]>) => () => {
    progress(`${commits} commits through ${name}`);
    return run();
  };
  const contenders = {
    ours: announced("the engine", () => course.frames()),
    service: announced("pg-logical-replication", () => course.bareFrames("service.ts")),
    floor: announced("the floor", () => course.bareFrames("floor.ts")),
    callback: announced("engine and client", () => course.callbacks()),
    callbackFloor: announced("the floor and a bare PGlite", () => course.bareCallbacks("replica.ts")),
  };
  return inTurn(rounds, contenders, { warmUp: false });
}

function figures({ ours, service, floor, callback, callbackFloor }: Latencies, conditions: Conditions): Figure[] {
  // Per round first: a moment in which the machine did something else spoils one round's percentile, not all.
  const at = (rounds: Latencies["ours"], share: number): number =>
    median(rounds.map((round) => percentile(round, share)));
  const besidePeer = { ...conditions, peer: "pg-logical-replication feeding a socket" };
  const frame = (name: string, share: number): Figure =>
    figure(name, "ms", at(ours, share), at(floor, share), { peer: at(service, share), conditions: besidePeer });
  const shown = (name: string, share: number): Figure =>
    figure(name, "ms", at(callback, share), at(callbackFloor, share), { conditions });
  return [
    frame("commit_to_frame_p50_ms", 0.5),
    frame("commit_to_frame_p99_ms", 0.99),
    { figure: "service_share_p50_ms", value: at(service, 0.5) - at(floor, 0.5), unit: "ms", conditions },
    shown("commit_to_callback_p50_ms", 0.5),
    shown("commit_to_callback_p99_ms", 0.99),
  ];
}
