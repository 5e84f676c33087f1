/** How much a change has to be compared with because of a condition, beside finding it: about half a microsecond for each. */
import type { Node } from "../where/node.ts";
import { isAnywhere, type Place, placesOf, restOf } from "./cover.ts";

/** Something computed takes as long as several comparisons, by all that it computes. */
const sqlPerComparison = 40;

export function comparisonsFor(node: Node): number {
  const places = placesOf(node);
  const isFound = places.every((place) => place.isWhole && !isAnywhere(place));
  const rest = isFound ? restOf(node) : node;
  return overlapping(places) + (rest ? comparisonsIn(rest) : 0);
}

/** A row has one value, and may lie in many ranges. */
function overlapping(places: readonly Place[]): number {
  const ranges = places.reduce((sum, { ranges: { length } }) => sum + length, 0);
  return ranges > 1 && places.length > 1 ? ranges : 0;
}

function comparisonsIn(node: Node): number {
  switch (node.kind) {
    case "and":
    case "or":
      return node.parts.reduce((sum, part) => sum + comparisonsIn(part), 0);
    case "truth":
      return comparisonsIn(node.part);
    case "guarded":
      return comparisonsIn(node.rule) + comparisonsIn(node.where);
    case "test":
      return Math.ceil(node.sql.length / sqlPerComparison);
    case "constant":
      return 0;
    default:
      return 1;
  }
}
