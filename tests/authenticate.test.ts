import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { jwt } from "../engine/authenticate.ts";

const secret = "a secret that is thirty-two bytes";
const inAnHour = Math.floor(Date.now() / 1000) + 3600;
const claims = { sub: "42", iss: "https://issuer.example", aud: "shop", exp: inAnHour, scope: "read walcast:publish" };
const options = { secret, issuer: claims.iss, audience: claims.aud };

test("a good token gives its claims, its scopes and when it ends", async () => {
  const auth = await jwt(options).verify(await signed(claims));
  assert.deepEqual(auth, { claims, scopes: ["read", "walcast:publish"], expiresAt: inAnHour * 1000 });
});

test("scopes come from the config's function where there is one", async () => {
  const auth = await jwt({ ...options, scopes: ({ sub }) => [`user:${String(sub)}`] }).verify(await signed(claims));
  assert.deepEqual(auth.scopes, ["user:42"]);
});

test("an expired token is told apart from a wrong one", async () => {
  const anHourAgo = inAnHour - 7200;
  await assert.rejects(jwt(options).verify(await signed({ ...claims, exp: anHourAgo })), { code: "token_expired" });
});

const refusals: readonly (readonly [what: string, token: () => string | undefined | Promise<string>])[] = [
  ["no token", () => undefined],
  ["an empty token", () => ""],
  ["text that is no token", () => "hunter2"],
  ["one signed with another secret", () => signed(claims, "another secret of thirty-two bytes")],
  ["one with alg none", () => new UnsecuredJWT(claims).encode()],
  ["one without an expiry", () => signed(without("exp"))],
  ["one whose expiry is text", () => signed({ ...claims, exp: String(inAnHour) as unknown as number })],
  ["one from another issuer", () => signed({ ...claims, iss: "https://other.example" })],
  ["one without an issuer", () => signed(without("iss"))],
  ["one for another audience", () => signed({ ...claims, aud: "bank" })],
  ["one that is not valid yet", () => signed({ ...claims, nbf: inAnHour })],
  [
    "one with a changed payload",
    async () => (await signed(claims)).replace(/\.[^.]+\./, (part) => part.replace(/.\.$/, "A.")),
  ],
];

for (const [what, token] of refusals) {
  test(`${what} is refused, and its text is not repeated`, async () => {
    const given = await token();
    await assert.rejects(jwt(options).verify(given), (error: Error & { code: string }) => {
      assert.equal(error.code, "unauthenticated");
      assert.ok(!given || !error.message.includes(given));
      return true;
    });
  });
}

test("published keys verify what was signed with their private half", async (t) => {
  const { jwksUrl, sign } = await issuer(t);
  const { claims: found } = await jwt({ ...withoutSecret, jwksUrl }).verify(await sign("key-1"));
  assert.equal(found.sub, "42");
});

test("a token that names an unknown key is refused", async (t) => {
  const { jwksUrl, sign } = await issuer(t);
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl }).verify(await sign("key-2")), { code: "unauthenticated" });
});

test("a public key is not taken for a shared secret", async (t) => {
  const { jwksUrl, publicKeyText } = await issuer(t);
  const forged = await new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256", kid: "key-1" })
    .sign(Buffer.from(publicKeyText));
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl }).verify(forged), { code: "unauthenticated" });
});

test("keys that cannot be fetched refuse, and say why", async (t) => {
  const { jwksUrl, sign, close } = await issuer(t);
  const token = await sign("key-1");
  close();
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl }).verify(token), {
    code: "unauthenticated",
    message: /keys to verify it with could not be fetched/,
  });
});

test("a secret shorter than the hash is refused at once, and so is a URL that is none", () => {
  assert.throws(() => jwt({ secret: "short" }), { code: "config_invalid", message: /at least 32 bytes, found 5/ });
  assert.throws(() => jwt({ jwksUrl: "keys.json" }), { code: "config_invalid" });
});

const withoutSecret = { issuer: claims.iss, audience: claims.aud };

function without(claim: keyof typeof claims): JWTPayload {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => name !== claim));
}

async function signed(payload: JWTPayload, key = secret): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(key));
}

interface Issuer {
  readonly jwksUrl: string;
  readonly publicKeyText: string;
  sign(kid: string): Promise<string>;
  close(): void;
}

async function issuer(t: TestContext): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const publicKeyText = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "key-1", alg: "ES256" }] });
  const server = createServer((_, response) =>
    response.setHeader("content-type", "application/json").end(publicKeyText),
  ).listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  t.after(close);
  const sign = (kid: string) => new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid }).sign(privateKey);
  return { jwksUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`, publicKeyText, sign, close };
}
