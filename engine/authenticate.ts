/**
 * Who a client is: a token in, verified claims out. JWTs are verified by `jose`; the algorithms are those of the key
 * that the config names, never those that the token asks for.
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
  /** Rejects with `unauthenticated` or `token_expired`. */
  verify(token: string | undefined): Promise<Auth>;
}

/** Without `auth` in the config: a token is not asked for and not looked at. */
export const anonymous: Authenticator = { verify: async () => ({ claims: {}, scopes: [] }) };

export type JwtOptions = JwtKey & {
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
  | { readonly jwksUrl: string; readonly secret?: never };

/** For the config: `auth: jwt({ secret, issuer, audience })`. A token without an expiry (`exp`) is refused. */
export function jwt(options: JwtOptions): Authenticator {
  const verifyClaims = options.secret === undefined ? withPublishedKeys(options.jwksUrl) : withSecret(options.secret);
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

function withPublishedKeys(jwksUrl: string): VerifyClaims {
  if (!URL.canParse(jwksUrl))
    throw new WalcastError(
      "config_invalid",
      'read the config: auth: expected jwt({ secret }) or jwt({ jwksUrl: "https://…" })',
    );
  const keys = createRemoteJWKSet(new URL(jwksUrl));
  const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
  return async (token, expected) => (await jwtVerify(token, keys, { ...expected, algorithms })).payload;
}

// Issuers' clocks and ours differ by a little.
const clockToleranceSeconds = 5;

function expectations({ issuer, audience }: JwtOptions): JWTVerifyOptions {
  return {
    requiredClaims: ["exp"],
    clockTolerance: clockToleranceSeconds,
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
  };
}

/** jose names the claim that failed and never repeats the token. */
function refuse(cause: Error): never {
  if (cause instanceof errors.JWTExpired)
    throw new WalcastError("token_expired", "verify a token: it has expired", { cause });
  if (cause instanceof errors.JOSEError) throw unauthenticated(cause.message, cause);
  throw unauthenticated("the keys to verify it with could not be fetched", cause);
}

function unauthenticated(found: string, cause?: unknown): WalcastError {
  return new WalcastError("unauthenticated", `verify a token: ${found}`, { cause });
}

function scopeClaim({ scope }: Readonly<Record<string, unknown>>): readonly string[] {
  return typeof scope === "string" ? scope.split(" ").filter((word) => word !== "") : [];
}
