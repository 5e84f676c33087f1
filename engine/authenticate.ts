/**
 * Who a client is: a token in, verified claims out. JWTs are verified by `jose`; the algorithms are those of the key
 * that the config names, never those that the token asks for. Whatever else a config verifies with is held to the same
 * form: what it returns is looked at, and what it throws denies.
 * https://www.rfc-editor.org/rfc/rfc8725 (best current practices)
 */
import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyOptions, jwtVerify } from "jose";
import { WalcastError } from "./errors.ts";

export interface Auth {
  readonly claims: Readonly<Record<string, unknown>>;
  readonly scopes: readonly string[];
  /** Milliseconds since 1970, when the token ends and so does the connection. Absent: never. */
  readonly expiresAt?: number;
}

export interface Authenticator {
  /** Rejects with `unauthenticated`, `token_expired`, or, where nobody can say just now, `auth_unavailable`. */
  verify(token: string | undefined): Promise<Auth>;
}

/** What a config's own function says of a token: who has it, or, with null, that nobody may. */
export type AuthFunction = (
  token: string | undefined,
) => Partial<Auth> | null | undefined | Promise<Partial<Auth> | null | undefined>;

/** Without `auth` in the config: a token is not asked for and not looked at. */
export const anonymous: Authenticator = { verify: async () => ({ claims: {}, scopes: [] }) };

export type JwtOptions = JwtKey & {
  /** By how much the issuer's clock and ours may differ, in seconds, where `exp` and `nbf` are compared. Default 5. */
  readonly leewaySeconds?: number;
  /** The `iss` that a token must have. */
  readonly issuer?: string;
  /** An `aud` that a token must have. */
  readonly audience?: string;
  /** Default: the words of the claim `scope`, as in RFC 8693. */
  readonly scopes?: (claims: Readonly<Record<string, unknown>>) => readonly string[];
};

export type JwtKey =
  /** A shared secret of at least 32 bytes: HS256, HS384, HS512. */
  | { readonly secret: string; readonly jwksUrl?: never }
  /** Where the issuer publishes its public keys: RS, PS, ES and EdDSA. https://www.rfc-editor.org/rfc/rfc7517 */
  | { readonly jwksUrl: string; readonly secret?: never; readonly jwks?: JwksOptions };

export interface JwksOptions {
  /** How long fetched keys are used before they are fetched anew: what an issuer withdraws is refused after that. Default 600,000. */
  readonly cacheMs?: number;
  /** A token with an unknown key has them fetched anew, but not sooner than so long after the last time. Default 30,000. */
  readonly cooldownMs?: number;
  /** Default 5,000. */
  readonly timeoutMs?: number;
}

/** For the config: `auth: jwt({ secret, issuer, audience })`. A token without an expiry (`exp`) is refused. */
export function jwt(options: JwtOptions): Authenticator {
  const verifyClaims = options.secret === undefined ? withPublishedKeys(options) : withSecret(options.secret);
  const expected = expectations(options);
  const scopesOf = options.scopes ?? scopeClaim;
  return {
    async verify(token) {
      if (token === undefined || token === "") throw unauthenticated("expected a token, found none");
      const claims = await verifyClaims(token, expected).catch(refuse);
      return { claims, scopes: scopesOf(claims), expiresAt: claims.exp! * 1000 };
    },
  };
}

type VerifyClaims = (token: string, expected: JWTVerifyOptions) => Promise<JWTPayload>;

function withSecret(secret: string): VerifyClaims {
  const key = new TextEncoder().encode(secret);
  // RFC 7518, section 3.2: a key of the same size as the hash output or larger must be used.
  if (key.length < 32)
    throw new WalcastError(
      "config_invalid",
      `read the config: auth: expected a secret of at least 32 bytes, found ${key.length}`,
      { hint: "make one with: openssl rand -base64 32" },
    );
  const algorithms = ["HS256", "HS384", "HS512"];
  return async (token, expected) => (await jwtVerify(token, key, { ...expected, algorithms })).payload;
}

function withPublishedKeys({ jwksUrl, jwks = {} }: Extract<JwtKey, { readonly jwksUrl: string }>): VerifyClaims {
  if (!URL.canParse(jwksUrl))
    throw new WalcastError(
      "config_invalid",
      'read the config: auth: expected jwt({ secret }) or jwt({ jwksUrl: "https://…" })',
    );
  const keys = createRemoteJWKSet(new URL(jwksUrl), {
    cacheMaxAge: jwks.cacheMs ?? 600_000,
    cooldownDuration: jwks.cooldownMs ?? 30_000,
    timeoutDuration: jwks.timeoutMs ?? 5_000,
  });
  const algorithms = [...rsaAlgorithms, ...curveAlgorithms];
  return async (token, expected) => (await jwtVerify(token, keys, { ...expected, algorithms })).payload;
}

const rsaAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
const curveAlgorithms = ["ES256", "ES384", "ES512", "EdDSA", "Ed25519"];

function expectations({ issuer, audience, leewaySeconds = 5 }: JwtOptions): JWTVerifyOptions {
  if (!(leewaySeconds >= 0 && leewaySeconds <= 3600))
    throw new WalcastError("config_invalid", "read the config: auth: expected leewaySeconds from 0 to 3600");
  return {
    requiredClaims: ["exp"],
    clockTolerance: leewaySeconds,
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
  };
}

/** jose names the claim that failed and never repeats the token. */
function refuse(cause: Error): never {
  if (cause instanceof errors.JWTExpired) throw new WalcastError("token_expired", "verify a token: it has expired");
  if (!(cause instanceof errors.JOSEError) || unavailable.has(cause.code))
    throw new WalcastError("auth_unavailable", "verify a token: the keys to verify it with could not be fetched", {
      cause,
    });
  throw unauthenticated(cause.message);
}

/** What is wrong with the issuer's answer, not with the token. A plain JOSEError is any status but 200. */
const unavailable = new Set([errors.JWKSTimeout.code, errors.JWKSInvalid.code, errors.JOSEError.code]);

function unauthenticated(found: string, cause?: unknown): WalcastError {
  return new WalcastError("unauthenticated", `verify a token: ${found}`, { cause });
}

function scopeClaim({ scope }: Readonly<Record<string, unknown>>): readonly string[] {
  return typeof scope === "string" ? scope.split(" ").filter((word) => word !== "") : [];
}

/** What the config has as `auth`. */
export function authenticator(given: Authenticator | AuthFunction): Authenticator {
  const verify: AuthFunction = typeof given === "function" ? given : (token) => given.verify(token);
  return {
    async verify(token) {
      try {
        return checked(await verify(token));
      } catch (cause) {
        throw cause instanceof WalcastError ? cause : unauthenticated("the config's auth failed", cause);
      }
    },
  };
}

/** A claim that is no claim or a scope that is no text would decide about rights: nothing is made of them. */
function checked(auth: Partial<Auth> | null | undefined): Auth {
  if (auth === null || auth === undefined) throw unauthenticated("the config's auth knows nobody by it");
  const { claims = {}, scopes = [], expiresAt } = auth;
  if (typeof claims !== "object" || claims === null || Array.isArray(claims))
    throw unauthenticated("expected claims as an object from the config's auth");
  if (!Array.isArray(scopes) || !scopes.every((scope) => typeof scope === "string"))
    throw unauthenticated("expected scopes as a list of texts from the config's auth");
  if (expiresAt !== undefined && !Number.isFinite(expiresAt))
    throw unauthenticated("expected expiresAt as milliseconds since 1970 from the config's auth");
  return { claims, scopes, ...(expiresAt === undefined ? {} : { expiresAt }) };
}
