/**
 * A bank whose money is conserved by every transaction, and everything that a transaction can be. The total of `ledger`
 * is conserved in itself; money moves between `accounts` and `vault`, so there only both together conserve it. Every
 * UPDATE raises `touches` by one, so that a replica can tell an update that it lost or got twice.
 */
import type { Client } from "pg";
import type { ShapeRequest } from "../../engine/protocol.ts";
import type { Random } from "./random.ts";

export const rowCount = 240;
export const ledgerTotal = rowCount * 1_000;
/** Of `accounts` and `vault` together. */
export const jointTotal = 2 * rowCount * 1_000;
/** Rows of each table that the writers leave alone, for what a test does by hand: else it might wait for one that is held up. */
export const reserved = { from: 1_001, to: 1_010 } as const;

const regions = ["north", "south", "east", "west"] as const;
/** The writers' ids; some are free, so that rows can come and move. */
const idMax = Math.floor(rowCount * 1.1);

export async function createBank(client: Client): Promise<void> {
  for (const table of ["ledger", "accounts", "vault"]) {
    await createTable(client, table);
    await client.query(
      `update ${table} set id = 1000 + id, region = 'held' where id <= ${reserved.to - reserved.from + 1}`,
    );
  }
  await client.query(functions);
}

/** REPLICA IDENTITY FULL from the start: setting it takes a lock that a table under full load does not give soon. */
export async function createTable(client: Client, table: string): Promise<void> {
  await client.query(`
    create table ${table} (id int primary key, region text not null, balance bigint not null, touches int not null default 0, note text);
    alter table ${table} replica identity full;
    insert into ${table} select n, (array['north', 'south', 'east', 'west'])[1 + n % 4], 1000, 0, case when n % 3 = 0 then null else 'note ' || n end
    from generate_series(1, ${rowCount}) n`);
}

const functions = `
  create function take(source regclass, whose int, amount bigint) returns void language plpgsql as $$
  declare found_rows int;
  begin
    execute format('update %s set balance = balance - $2, touches = touches + 1 where id = $1', source) using whose, amount;
    get diagnostics found_rows = row_count;
    if found_rows = 0 then raise no_data_found; end if;
  end $$;

  create function transfer(source regclass, giver int, target regclass, taker int, amount bigint) returns void language plpgsql as $$
  begin
    perform take(source, giver, amount);
    perform take(target, taker, -amount);
  end $$;

  create function open_account(source regclass, giver int, fresh int, amount bigint) returns void language plpgsql as $$
  begin
    perform take(source, giver, amount);
    execute format('insert into %s (id, region, balance, note) values ($1, ''north'', $2, ''opened'')', source) using fresh, amount;
  end $$;

  create function close_account(source regclass, whose int, heir int) returns void language plpgsql as $$
  declare amount bigint;
  begin
    execute format('delete from %s where id = $1 returning balance', source) into amount using whose;
    if amount is null then raise no_data_found; end if;
    perform take(source, heir, -amount);
  end $$;

  create function refill(source regclass) returns void language plpgsql as $$
  begin
    -- First: what commits while the rows are read and the table is not yet locked would be lost.
    execute format('lock table %s in access exclusive mode', source);
    execute format('create temp table kept on commit drop as select * from %s', source);
    execute format('truncate %s', source);
    execute format('insert into %s select * from kept', source);
  end $$;`;

/** One transaction of a writer, chosen at random. Rejects where it was rolled back, on purpose or not. */
export async function oneTransaction(client: Client, random: Random): Promise<void> {
  await random.pick(transactions)(client, random);
}

type Step = (client: Client, random: Random) => Promise<unknown>;

const transferWithin: Step = (client, random) => {
  const table = random.pick(["ledger", "accounts"]);
  const [giver, taker] = two(random);
  return client.query("select transfer($1, $2, $1, $3, $4)", [table, giver, taker, random.integer(1, 500)]);
};

const transferAcross: Step = (client, random) => {
  const [from, to] = random.chance(0.5) ? ["accounts", "vault"] : ["vault", "accounts"];
  return client.query("select transfer($1, $2, $3, $4, $5)", [
    from,
    id(random),
    to,
    id(random),
    random.integer(1, 500),
  ]);
};

const openAccount: Step = (client, random) =>
  client.query("select open_account('ledger', $1, $2, $3)", [...two(random), random.integer(0, 300)]);

const closeAccount: Step = (client, random) => client.query("select close_account('ledger', $1, $2)", two(random));

const renumber: Step = (client, random) =>
  client.query("update ledger set id = $2, touches = touches + 1 where id = $1", two(random));

const move: Step = (client, random) =>
  client.query("update ledger set region = $2, touches = touches + 1 where id = $1", [
    id(random),
    random.pick(regions),
  ]);

/** Many rows at once; some notes are long enough to be stored out of line, so later updates leave them unchanged. */
const annotate: Step = (client, random) =>
  client.query(
    `update ${random.pick(["ledger", "accounts"])} set touches = touches + 1, note = case when id % 7 = $2 % 7
       then (select string_agg(md5(n::text || $2), '') from generate_series(1, 100) n) else nullif($2::text, '1') end where region = $1 and id % 8 = $2 % 8`,
    [random.pick(regions), random.integer(1, 99)],
  );

const withSavepoint: Step = async (client, random) => {
  await client.query("begin");
  await transferWithin(client, random);
  await client.query(
    "savepoint before; select take('ledger', 1001, 0); update vault set balance = balance + 5, touches = touches + 1 where id < 5; rollback to before",
  );
  await transferAcross(client, random);
  await client.query("commit");
};

const withKeptSavepoint: Step = async (client, random) => {
  await client.query("begin; savepoint kept");
  await transferAcross(client, random);
  await client.query("release kept; savepoint kept_too");
  await transferWithin(client, random);
  await client.query("commit");
};

const rolledBack: Step = async (client, random) => {
  await client.query("begin");
  await client.query("select take('vault', $1, -5)", [id(random)]);
  await client.query("rollback");
};

const transactions: readonly Step[] = [
  transferWithin,
  transferWithin,
  transferAcross,
  transferAcross,
  openAccount,
  closeAccount,
  renumber,
  move,
  annotate,
  withSavepoint,
  withKeptSavepoint,
  rolledBack,
];

/** What a writer may meet: a row that another removed, a key that another took, a lock that another keeps. */
export const expectedRefusals: ReadonlySet<string> = new Set(["P0002", "23505", "55P03", "40P01"]);

/** A random question about one of the tables. */
export function randomShape(random: Random): ShapeRequest {
  const table = random.pick(["ledger", "ledger", "accounts", "vault"]);
  const question = random.pick(questions)(random);
  const columns = random.chance(0.25) ? { columns: ["id", "touches", "region"] } : {};
  return { table, ...question, ...columns };
}

const questions: readonly ((random: Random) => Pick<ShapeRequest, "where" | "params">)[] = [
  (random) => ({ where: "region = $1", params: [random.pick(regions)] }),
  (random) => ({ where: "region IN ($1, $2)", params: [random.pick(regions), "south"] }),
  (random) => ({ where: "balance < $1", params: [random.integer(500, 1500)] }),
  (random) => ({ where: "balance >= $1 AND region <> $2", params: [random.integer(500, 1500), random.pick(regions)] }),
  (random) => ({ where: "id < $1 OR region = $2", params: [random.integer(1, idMax), random.pick(regions)] }),
  (random) => ({ where: "id IN ($1, $2, $3)", params: [id(random), id(random), id(random)] }),
  () => ({ where: "note IS NULL" }),
  (random) => ({ where: "NOT (touches > $1 OR region = $2)", params: [random.integer(1, 40), random.pick(regions)] }),
  (random) => ({
    where: "region = $1 AND (touches < $2 OR note IS NOT NULL)",
    params: [random.pick(regions), random.integer(1, 40)],
  }),
];

/** Two questions that share out the rows of a table: what one does not show, the other does. */
export function complements(table: string, random: Random): [ShapeRequest, ShapeRequest] {
  if (random.chance(0.5)) {
    const params = [random.integer(600, 1400)];
    return [
      { table, where: "balance < $1", params },
      { table, where: "balance >= $1", params },
    ];
  }
  const params = [random.pick(regions), random.pick(regions)];
  return [
    { table, where: "region IN ($1, $2)", params },
    { table, where: "NOT (region = $1 OR region = $2)", params },
  ];
}

function id(random: Random): number {
  return random.integer(1, idMax);
}

function two(random: Random): [number, number] {
  const first = id(random);
  return [first, ((first + random.integer(0, idMax - 2)) % idMax) + 1];
}
