/** The dashboard's text can be read: every colour against what it stands on, by the WCAG's measure, light and dark. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { statuses } from "../../examples/order-dashboard/statuses.ts";

const css = readFileSync(new URL("../../examples/order-dashboard/page/styles/tokens.css", import.meta.url), "utf8");
const [light, dark] = css.split("@media (prefers-color-scheme: dark)").map(colours);

const pairs = [
  ...["page", "surface", "sunken", "flash"].map((ground) => ["ink", ground] as const),
  ...["page", "surface", "sunken", "flash"].map((ground) => ["muted", ground] as const),
  ["accent", "surface"] as const,
  ...statuses.map((status) => [status, `${status}-soft`] as const),
];

for (const [scheme, tokens] of [
  ["light", light!],
  ["dark", new Map([...light!, ...dark!])],
] as const) {
  for (const [text, ground] of pairs) {
    test(`${scheme}: ${text} on ${ground} has a contrast of 4.5 or more`, () => {
      const found = contrast(tokens.get(text)!, tokens.get(ground)!);
      assert.ok(found >= 4.5, `found ${found.toFixed(2)}`);
    });
  }
}

function colours(text: string): Map<string, string> {
  return new Map(Array.from(text.matchAll(/--([\w-]+): #([0-9a-f]{6});/g), ([, name, colour]) => [name!, colour!]));
}

/** https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio */
function contrast(a: string, b: string): number {
  const [lighter, darker] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (lighter! + 0.05) / (darker! + 0.05);
}

function luminance(colour: string): number {
  const [red, green, blue] = [0, 2, 4].map((at) => linear(Number.parseInt(colour.slice(at, at + 2), 16) / 255));
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

function linear(channel: number): number {
  return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
}
