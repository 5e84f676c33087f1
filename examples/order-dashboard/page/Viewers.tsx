/** Who else has the page open: presence, which is kept nowhere. Everybody is a seabird until they leave. */
import type { EphemeralTopic } from "@walcast/client";
import { useClient, useStatus } from "@walcast/client/react";
import { useEffect, useState } from "react";
import type { Shop } from "./client.ts";

interface Viewer {
  readonly id: string;
  readonly name: string;
  readonly isYou: boolean;
}

const birds =
  "Auk Avocet Curlew Dunlin Eider Fulmar Gannet Godwit Guillemot Kittiwake Knot Petrel Plover Puffin Razorbill Sanderling Shearwater Skua Tern Turnstone".split(
    " ",
  );
const ownName = birds[Math.floor(Math.random() * birds.length)]!;
const shownMax = 3;

export function Viewers() {
  const viewers = useViewers();
  const isOffline = useStatus() === "offline";
  if (isOffline || viewers.length === 0) return null;
  const names = viewers.map(({ name, isYou }) => (isYou ? `${name} (you)` : name)).join(", ");
  return (
    <div className="viewers" title={`Looking at this page: ${names}`}>
      <span className="hidden">Looking at this page: {names}</span>
      <span className="viewers-faces" aria-hidden="true">
        {viewers.slice(0, shownMax).map(({ id, name, isYou }) => (
          <i key={id} className={isYou ? "face face-you" : "face"}>
            {name.slice(0, 2)}
          </i>
        ))}
        {viewers.length > shownMax && <i className="face numbers">+{viewers.length - shownMax}</i>}
      </span>
      <span className="viewers-count numbers" aria-hidden="true">
        {viewers.length}
      </span>
    </div>
  );
}

/** Oneself first, then the others by name. Empty until one is there oneself. */
function useViewers(): readonly Viewer[] {
  const client = useClient<Shop>();
  const [viewers, setViewers] = useState<readonly Viewer[]>([]);
  useEffect(() => {
    const topic = client.topic("viewers", { ephemeral: true });
    let you = "";
    const stop = topic.subscribe({
      onConnect: (start) => void (you = start.you),
      onPresence: ({ members }) => setViewers(inOrder(members, you)),
    });
    const leave = beThere(topic);
    return () => {
      leave();
      stop();
    };
  }, [client]);
  return viewers;
}

/** From now until the page is left, also for a page that a browser puts aside and shows again. */
function beThere(topic: EphemeralTopic): () => void {
  const over = new AbortController();
  const come = () => topic.track({ name: ownName });
  const leave = () => topic.untrack();
  addEventListener("pagehide", leave, over);
  addEventListener("pageshow", come, over);
  come();
  return () => {
    over.abort();
    leave();
  };
}

type Member = EphemeralTopic["members"][number];

function inOrder(members: readonly Member[], you: string): readonly Viewer[] {
  return members
    .map(({ member, state }) => ({ id: member, name: nameIn(state), isYou: member === you }))
    .sort((a, b) => Number(b.isYou) - Number(a.isYou) || a.name.localeCompare(b.name));
}

/** Others say of themselves what they like. */
function nameIn(state: unknown): string {
  const name = typeof state === "object" && state && "name" in state ? state.name : undefined;
  return typeof name === "string" && name !== "" ? name.slice(0, 20) : "Somebody";
}
