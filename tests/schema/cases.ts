/** What is done to tables while somebody shows them. Each case has a table of its own, `%`, and runs transaction by transaction. */

export interface SchemaCase {
  readonly name: string;
  /** Makes `%`, with a column `id` as its key. */
  readonly given: string;
  /** Each a transaction. */
  readonly transactions: readonly string[];
  /** In the end the name is another table's: a client that was not told at once shows nothing until it has its rows. */
  readonly isAnother?: boolean;
  /** No row has to be sent again for it: with the engine there, nobody loads anything anew. */
  readonly inPlace?: boolean;
  /** Rows come with labels that an enum did not have. */
  readonly givesLabels?: boolean;
}

const given = "create table % (id int primary key, n int, s text); insert into % values (1, 10, 'a'), (2, 20, 'b')";
const parted =
  "create table % (id int primary key, n int, s text) partition by range (id); create table %_a partition of % for values from (0) to (10); create table %_b partition of % for values from (10) to (20); insert into % values (1, 10, 'a'), (11, 20, 'b')";

export const schemaCases: readonly SchemaCase[] = [
  {
    name: "a nullable column is added, and written",
    inPlace: true,
    given,
    transactions: [
      "alter table % add column x int",
      "update % set x = 1 where id = 1",
      "insert into % values (3, 30, 'c', 3)",
    ],
  },
  {
    name: "a column with a constant default is added",
    inPlace: true,
    given,
    transactions: [
      "alter table % add column x text not null default 'it''s'; insert into % values (3, 30, 'c')",
      "update % set x = 'y'",
    ],
  },
  {
    name: "two columns are added at once, and a third right after",
    inPlace: true,
    given,
    transactions: [
      "alter table % add column x int default 7, add column y numeric",
      "alter table % add column z date default '2024-02-29'",
    ],
  },
  {
    name: "a column with a volatile default is added",
    given,
    transactions: ["alter table % add column x int default floor(random() + 5)", "update % set n = 11 where id = 1"],
  },
  {
    name: "a column is added between two changes of one transaction",
    given,
    transactions: [
      "update % set n = n + 1; alter table % add column x int default 7; update % set x = n; delete from % where id = 2",
    ],
  },
  {
    name: "an addition is rolled back to a savepoint",
    inPlace: true,
    given,
    transactions: [
      "update % set n = 11; savepoint s; alter table % add column x int; update % set x = 1; rollback to s; update % set s = 'z'",
    ],
  },
  {
    name: "a column is dropped",
    given,
    transactions: ["alter table % drop column n", "insert into % values (3, 'c')"],
  },
  {
    name: "a column is dropped and made again under its name",
    given,
    transactions: [
      "alter table % drop column s; alter table % add column s text",
      "update % set s = 'new' where id = 1",
    ],
  },
  {
    name: "a column is renamed",
    given,
    transactions: ["update % set n = 5; alter table % rename n to m", "update % set m = 6"],
  },
  {
    name: "two columns swap their names",
    given: "create table % (id int primary key, a int, b int); insert into % values (1, 10, 20)",
    transactions: [
      "alter table % rename a to c; alter table % rename b to a; alter table % rename c to b",
      "update % set a = a + 1",
    ],
  },
  {
    name: "a column changes its type",
    given,
    transactions: ["alter table % alter n type text using 'n' || n", "insert into % values (3, 'n30', 'c')"],
  },
  {
    name: "a table is rewritten, and its form stays the same",
    given,
    transactions: ["alter table % alter n type int using n * 2", "update % set n = n + 1 where id = 1"],
  },
  {
    name: "a column becomes NOT NULL, and nullable again",
    given,
    transactions: [
      "alter table % alter s set not null",
      "alter table % alter s drop not null",
      "update % set s = null where id = 1",
    ],
  },
  {
    name: "an enum gains a label in its midst, and then has it",
    givesLabels: true,
    inPlace: true,
    given:
      "create type %_mood as enum ('calm', 'busy'); create table % (id int primary key, m %_mood); insert into % values (1, 'calm')",
    transactions: [
      "alter type %_mood add value 'fine' before 'busy'",
      "insert into % values (2, 'fine')",
      "alter table % add column m2 %_mood default 'fine'",
    ],
  },
  {
    name: "an enum's label is renamed",
    givesLabels: true,
    given:
      "create type %_mood as enum ('calm', 'busy'); create table % (id int primary key, m %_mood); insert into % values (1, 'calm')",
    transactions: ["alter type %_mood rename value 'calm' to 'quiet'", "insert into % values (2, 'quiet')"],
  },
  {
    name: "a table is dropped and made again under its name, with other columns",
    isAnother: true,
    given,
    transactions: [
      "drop table %; create table % (id text primary key, other int); insert into % values ('x', 1)",
      "insert into % values ('y', 2)",
    ],
  },
  {
    name: "two tables swap their names",
    isAnother: true,
    given: `${given}; create table %_other (id int primary key, other text); insert into %_other values (7, 'other')`,
    transactions: [
      "alter table % rename to %_third; alter table %_other rename to %; alter table %_third rename to %_other",
      "insert into % values (8, 'more')",
    ],
  },
  {
    name: "the replica identity flips between two updates",
    given,
    transactions: [
      "update % set n = 11 where id = 1",
      "alter table % replica identity default; update % set n = 12 where id = 1",
      "alter table % replica identity full; update % set n = 13 where id = 1",
      "alter table % replica identity nothing; alter table % replica identity full; delete from % where id = 2",
    ],
  },
  {
    name: "the key becomes another one",
    given: "create table % (id int, k int not null, primary key (id)); insert into % values (1, 2), (2, 1)",
    transactions: ["alter table % drop constraint %_pkey, add primary key (k)", "update % set k = k + 10"],
  },
  {
    name: "stored and virtual generated columns come and go",
    given: "create table % (id int primary key, n int); insert into % values (1, 10)",
    transactions: [
      "alter table % add column g int generated always as (n * 2) stored",
      "update % set n = 11",
      "alter table % drop column g; insert into % values (2, 20)",
    ],
  },
  {
    name: "TRUNCATE … CASCADE between inserts",
    inPlace: true,
    given: `${given}; create table %_child (id int primary key references %)`,
    transactions: [
      "insert into % values (3, 30, 'c'); truncate % cascade; insert into % values (4, 40, 'd')",
      "truncate %; insert into % values (5, 50, 'e')".replace("truncate %", "truncate % cascade"),
    ],
  },
  {
    name: "a table is taken out of the publication and put in again",
    given,
    transactions: [
      "alter publication walcast drop table %",
      "update % set n = 99",
      // The engine may have done so already.
      "do $$ begin alter publication walcast add table %; exception when duplicate_object then null; end $$",
      "update % set s = 'back' where id = 1",
    ],
  },
  {
    name: "a partition is made, and a row moves into it",
    given: parted,
    transactions: [
      "create table %_c (s text, n int, id int primary key); alter table % attach partition %_c for values from (20) to (30)",
      "update % set id = 21, s = 'moved' where id = 1",
      "update % set n = n + 1",
    ],
  },
  {
    name: "a partition with rows is attached, and another detached",
    given: `${parted}; create table %_c (s text, gone int, n int, id int primary key); alter table %_c drop column gone; insert into %_c values ('c', 30, 21)`,
    transactions: [
      "alter table % attach partition %_c for values from (20) to (30)",
      "update % set n = n + 1",
      "alter table % detach partition %_a; update %_a set n = 0",
      "insert into % values (12, 1, 'x')",
    ],
  },
  {
    name: "one partition is truncated, one dropped, and then the root is truncated",
    given: parted,
    transactions: [
      "truncate %_a; insert into % values (2, 2, 'after')",
      "drop table %_b",
      "truncate %; insert into % values (3, 3, 'again')",
    ],
  },
  {
    name: "a partitioned table gains a column",
    given: parted,
    transactions: [
      "alter table % add column x int default 7",
      "insert into % values (3, 3, 'c', 8)",
      "update % set x = 9 where id = 11",
    ],
  },
];
