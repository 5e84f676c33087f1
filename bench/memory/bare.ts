/** The floor: a bare Node process that has the libraries loaded with which an engine talks to Postgres and to sockets, and listens. */
import pg from "pg";
import { uws } from "../../engine/sockets/uws.ts";
import { say, whenDismissed } from "../processes.ts";

const pool = new pg.Pool();
uws.App().listen("127.0.0.1", 0, (listening) => say(uws.us_socket_local_port(listening)));
whenDismissed(() => pool.end());
