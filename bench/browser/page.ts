/** The page: the address names who is to be measured, and the code of nobody else is loaded. */
import type { Contender, ContenderName } from "./contender.ts";

interface Code {
  readonly create: (query: URLSearchParams) => Contender;
}

const contenders: { readonly [Name in ContenderName]: () => Promise<Code> } = {
  ours: () => import("./ours.ts"),
  bare: () => import("./bare.ts"),
  peer: () => import("./peer.ts"),
};

const query = new URLSearchParams(location.search);
const contending = contenders[query.get("contender") as ContenderName]().then(({ create }) => create(query));
// At once, like an application: whoever asks from outside comes later.
const shown = query.has("show") ? contending.then((contender) => contender.firstRows()) : undefined;
Object.assign(globalThis, { contending, shown });
