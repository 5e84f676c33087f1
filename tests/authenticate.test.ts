import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { type Auth, type Authenticator, type AuthFunction, jwt } from "../engine/authenticate.ts";
import { resolveConfig } from "../engine/config.ts";

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

for (const algorithm of ["HS384", "HS512"]) {
  test(`a shared secret verifies ${algorithm}`, async () => {
    const token = await new SignJWT(claims).setProtectedHeader({ alg: algorithm }).sign(Buffer.from(secret));
    assert.equal((await jwt(options).verify(token)).claims.sub, "42");
  });
}

for (const algorithm of ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]) {
  test(`published keys verify what was signed with their private half by ${algorithm}`, async (t) => {
    const { jwksUrl, sign } = await issuer(t, algorithm);
    const { claims: found } = await jwt({ ...withoutSecret, jwksUrl }).verify(await sign("key-1"));
    assert.equal(found.sub, "42");
  });
}

test("a token that names an unknown key is refused", async (t) => {
  const { jwksUrl, sign } = await issuer(t);
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl }).verify(await sign("key-2")), { code: "unauthenticated" });
});

test("a public key is not taken for a shared secret", async (t) => {
  const { jwksUrl, publicKeyText } = await issuer(t);
  const forged = await new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256", kid: "key-1" })
    .sign(Buffer.from(publicKeyText()));
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl }).verify(forged), { code: "unauthenticated" });
});

test("keys are fetched once for many tokens, and anew for a key that they lack, but not for each such token", async (t) => {
  const { jwksUrl, sign, rotate, fetches } = await issuer(t);
  const hasty = jwt({ ...withoutSecret, jwksUrl, jwks: { cooldownMs: 0 } });
  const patient = jwt({ ...withoutSecret, jwksUrl });
  for (let i = 0; i < 3; i++) await hasty.verify(await sign("key-1"));
  await patient.verify(await sign("key-1"));
  assert.equal(fetches(), 2);
  await rotate("key-2");
  assert.equal((await hasty.verify(await sign("key-2"))).claims.sub, "42");
  assert.equal(fetches(), 3);
  for (let i = 0; i < 3; i++)
    await assert.rejects(patient.verify(await sign("key-2")), { code: "unauthenticated" }, "within the cooldown");
  assert.equal(fetches(), 3);
});

test("a key that its issuer has withdrawn is refused once what was fetched is too old", async (t) => {
  const { jwksUrl, sign, rotate } = await issuer(t);
  const strict = jwt({ ...withoutSecret, jwksUrl, jwks: { cacheMs: 0 } });
  const withdrawn = await sign("key-1");
  await strict.verify(withdrawn);
  await rotate("key-2");
  await assert.rejects(strict.verify(withdrawn), { code: "unauthenticated" });
});

test("keys that cannot be fetched say nothing about the token, and why", async (t) => {
  const { jwksUrl, sign, close } = await issuer(t);
  const token = await sign("key-1");
  close();
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl }).verify(token), {
    code: "auth_unavailable",
    message: /keys to verify it with could not be fetched/,
  });
  const elsewhere = await issuer(t, "ES256", 500);
  await assert.rejects(jwt({ ...withoutSecret, jwksUrl: elsewhere.jwksUrl }).verify(token), {
    code: "auth_unavailable",
  });
});

test("clocks may differ by the leeway, and by no more", async () => {
  const now = Math.floor(Date.now() / 1000);
  const late = await signed({ ...claims, exp: now - 30 });
  const early = await signed({ ...claims, nbf: now + 30 });
  const lenient = jwt({ ...options, leewaySeconds: 60 });
  for (const token of [late, early]) assert.equal((await lenient.verify(token)).claims.sub, "42");
  await assert.rejects(jwt(options).verify(late), { code: "token_expired" });
  await assert.rejects(jwt({ ...options, leewaySeconds: 0 }).verify(early), { code: "unauthenticated" });
  assert.throws(() => jwt({ ...options, leewaySeconds: Infinity }), { code: "config_invalid" });
});

const verifyBy = (auth: AuthFunction | Authenticator): Promise<Auth> =>
  resolveConfig({ databaseUrl: "postgresql://localhost/shop", auth }).auth.verify("token-1");

test("a function says who has a token, and what it leaves out is nothing", async () => {
  assert.deepEqual(await verifyBy(async (token) => ({ claims: { sub: `user of ${token}` }, scopes: ["read"] })), {
    claims: { sub: "user of token-1" },
    scopes: ["read"],
  });
  assert.deepEqual(await verifyBy(() => ({})), { claims: {}, scopes: [] });
  assert.equal((await verifyBy(() => ({ expiresAt: 5 }))).expiresAt, 5);
});

const nobody: readonly (readonly [what: string, auth: () => unknown])[] = [
  ["null", () => null],
  ["nothing", () => undefined],
  ["claims that are a list", () => ({ claims: ["admin"] })],
  ["claims that are text", () => ({ claims: "admin" })],
  ["scopes that are text", () => ({ scopes: "admin" })],
  ["scopes that are no texts", () => ({ scopes: [1] })],
  ["an expiry that is text", () => ({ expiresAt: "2099-01-01" })],
  ["an expiry that is no number", () => ({ expiresAt: Number.NaN })],
  [
    "an error",
    () => {
      throw new TypeError("of the application");
    },
  ],
];
for (const [what, auth] of nobody) {
  test(`a function that answers with ${what} lets nobody in`, async () => {
    await assert.rejects(verifyBy(auth as AuthFunction), (error: Error & { code: string }) => {
      assert.equal(error.code, "unauthenticated");
      assert.doesNotMatch(error.message, /admin|of the application/);
      return true;
    });
    await assert.rejects(verifyBy({ verify: async () => auth() as Auth }), { code: "unauthenticated" });
  });
}

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
  publicKeyText(): string;
  fetches(): number;
  sign(kid: string): Promise<string>;
  /** Another key, under this name, in place of the one before. */
  rotate(kid: string): Promise<void>;
  close(): void;
}

async function issuer(t: TestContext, algorithm = "ES256", status = 200): Promise<Issuer> {
  let privateKey: CryptoKey;
  let publicKeyText: string;
  let fetches = 0;
  const rotate = async (kid: string): Promise<void> => {
    const pair = await generateKeyPair(algorithm);
    ({ privateKey } = pair);
    publicKeyText = JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid, alg: algorithm }] });
  };
  await rotate("key-1");
  const server = createServer((_, response) => {
    fetches++;
    response.statusCode = status;
    response.setHeader("content-type", "application/json").end(publicKeyText);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  t.after(close);
  return {
    jwksUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`,
    publicKeyText: () => publicKeyText,
    fetches: () => fetches,
    sign: (kid) => new SignJWT(claims).setProtectedHeader({ alg: algorithm, kid }).sign(privateKey),
    rotate,
    close,
  };
}
