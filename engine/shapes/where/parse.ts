/**
 * The text of a `where` → Postgres' own parse tree of that one expression. Nothing in the text can reach outside of it,
 * and no text can take the process down: the parser writes its tree recursively, on the stack of WebAssembly, so the
 * depth is bounded on the tokens, before it sees them.
 */
import { hasSqlDetails, loadModule, parseSync, type Node as Raw, type SelectStmt } from "libpg-query";
import { WalcastError, type ErrorCode } from "../../errors.ts";
import { canStandInSql } from "../name.ts";
import { Recent } from "../recent.ts";
import { elementsMax, nodesMax } from "./size.ts";
import { Tokens } from "./tokens.ts";

const whereBytesMax = 65_536;

/** To be awaited once before the first predicate is compiled. */
export async function loadParser(): Promise<void> {
  await loadModule();
}

export interface ParsedWhere {
  readonly expression: Raw;
  /** A location in the tree → offset in the `where`, in UTF-16 code units. */
  readonly positionOf: (location: number | undefined) => number | undefined;
}

export function parseWhere(where: string): ParsedWhere {
  return recent.get(where, () => parse(where));
}

/** Whether this very text was read lately, so that reading it again takes next to no time. */
export function wasParsed(where: string): boolean {
  return recent.has(where);
}

/** What another thread made of this text, as JSON. */
export function parsedElsewhere(where: string, expression: string): ParsedWhere {
  return parsedAs(JSON.parse(expression) as Raw, where);
}

// Clients of one application send the same few texts with other parameters; parsing is most of what a shape costs.
const recent = new Recent<ParsedWhere>(200);

function parse(where: string): ParsedWhere {
  checkText(where);
  checkTokens(where);
  const expression = onlyWhereClause(parseStatement(where));
  if (!expression) throw new WalcastError("where_syntax", "read a where: expected one condition and nothing after it");
  return parsedAs(expression, where);
}

function parsedAs(expression: Raw, where: string): ParsedWhere {
  return {
    expression,
    positionOf: (location) =>
      location === undefined || location < 0 ? undefined : byteOffset(where, location - before.length),
  };
}

const before = "SELECT 1 FROM t WHERE (";
// A line comment at the end of the text must not swallow the parenthesis.
const after = "\n)";

function checkText(where: string): void {
  if (!canStandInSql(where))
    throw new WalcastError("where_syntax", "read a where: expected text without a zero byte or half a character");
  const bytes = Buffer.byteLength(where);
  if (bytes > whereBytesMax)
    throw new WalcastError(
      "where_unsupported",
      `read a where: expected at most ${whereBytesMax} bytes, found ${bytes}`,
      { hint: "Pass long lists as one array parameter: id = ANY($1)." },
    );
}

function parseStatement(where: string): Raw | undefined {
  try {
    const { stmts = [] } = parseSync(before + where + after);
    return stmts.length === 1 ? stmts[0]!.stmt : undefined;
  } catch (error) {
    if (!hasSqlDetails(error)) throw error;
    const position = Math.min(characterOffset(where, error.sqlDetails!.cursorPosition - before.length), where.length);
    throw new WalcastError("where_syntax", `read a where: ${error.message}`, { position, cause: error });
  }
}

/** Of all that a SELECT can have, exactly what was put around the text, and a WHERE. */
function onlyWhereClause(statement: Raw | undefined): Raw | undefined {
  if (!statement || !("SelectStmt" in statement)) return undefined;
  const { whereClause, ...rest } = statement.SelectStmt;
  return JSON.stringify(rest) === (plainSelect ??= JSON.stringify(ownSelect())) ? whereClause : undefined;
}

let plainSelect: string | undefined;

function ownSelect(): SelectStmt {
  const statement = parseSync(`${before}true${after}`).stmts?.[0]?.stmt;
  const { whereClause: _, ...rest } = statement && "SelectStmt" in statement ? statement.SelectStmt : {};
  return rest;
}

// ── Depth, judged by the tokens ──────────────────────────────────────────────────────────────────────────────────────

// The parser's stack held more than 3,000 levels; a condition that a person or a query builder wrote has few.
const tokenDepthMax = 1000;
const nestingMax = 200;
// They build chains that grow deep across AND, OR and commas. None of them can be part of a supported condition.
const statementWords = ["SELECT", "UNION", "INTERSECT", "EXCEPT", "TABLE", "VALUES", "CASE"] as const;
const [OPEN, CLOSE, OPEN_ARRAY, CLOSE_ARRAY, COMMA, SEMICOLON] = [0x28, 0x29, 0x5b, 0x5d, 0x2c, 0x3b];

/**
 * A tree's depth is at most the number of tokens in an operand, plus that of the operands around it. AND, OR and commas
 * begin a new operand beside the last one.
 */
function checkTokens(where: string): void {
  const tokens = new Tokens(where);
  const outer: number[] = [];
  let base = 0;
  let depth = 0;
  let constants = 0;
  let joined = 0;
  // A text that cannot be cut into tokens cannot be parsed either, and the parser says better why.
  while (tokens.next()) {
    if (tokens.isSign(OPEN) || tokens.isSign(OPEN_ARRAY)) {
      outer.push(base, depth);
      base = depth;
    } else if (tokens.isSign(CLOSE) || tokens.isSign(CLOSE_ARRAY)) {
      if (outer.length === 0)
        throw refusedAt("where_syntax", tokens, `expected a condition, found an unmatched "${where[tokens.start]}"`);
      depth = outer.pop()!;
      base = outer.pop()!;
    } else if (tokens.isSign(SEMICOLON)) {
      throw refusedAt("where_syntax", tokens, 'expected one condition, found ";"');
    } else if (tokens.isSign(COMMA) || tokens.isWord("AND") || tokens.isWord("OR")) {
      depth = base;
      // On either side of each stands at least one node.
      if (tokens.kind === "word" && ++joined >= nodesMax) throw tooLarge(tokens, nodesMax);
    } else if (tokens.kind === "word") {
      const word = statementWords.find((one) => tokens.isWord(one));
      if (word)
        throw refusedAt("where_unsupported", tokens, `expected comparisons of columns with constants, found ${word}`);
    } else if (isConstant(tokens) && ++constants > elementsMax) {
      throw tooLarge(tokens, elementsMax);
    }
    depth++;
    if (outer.length / 2 > nestingMax || depth > tokenDepthMax)
      throw refusedAt("where_unsupported", tokens, `expected at most ${nestingMax} levels of nesting`);
  }
}

function tooLarge(tokens: Tokens, max: number): WalcastError {
  return refusedAt("where_unsupported", tokens, `expected at most ${max} columns, constants and operators`);
}

/** Of these, each is a node or an element of its own. */
function isConstant({ kind }: Tokens): boolean {
  return kind === "string" || kind === "number" || kind === "parameter";
}

function refusedAt(code: ErrorCode, { start }: Tokens, found: string): WalcastError {
  return new WalcastError(code, `read a where: ${found}`, { position: start });
}

// ── Positions: the tree counts bytes, syntax errors count characters, we count UTF-16 code units ─────────────────────

function byteOffset(where: string, bytes: number): number {
  return Buffer.from(where).toString("utf8", 0, Math.max(bytes, 0)).length;
}

function characterOffset(where: string, characters: number): number {
  return Array.from(where).slice(0, Math.max(characters, 0)).join("").length;
}
