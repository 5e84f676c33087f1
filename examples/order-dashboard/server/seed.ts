/**
 * The shop's past: customers, products and three days of orders, made up from a seed. Pure: the same seed and the same
 * instant give the same rows, so everybody who starts the example looks at much the same shop.
 */
import { catalog, cities, familyNames, givenNames } from "./names.ts";
import { Random } from "./random.ts";
import type { Status } from "../statuses.ts";

export interface Customer {
  readonly id: number;
  readonly name: string;
  readonly email: string;
  readonly city: string;
  readonly country: string;
}
export interface Product {
  readonly id: number;
  readonly name: string;
  readonly category: string;
  readonly price: number;
}
export interface Order {
  readonly id: number;
  readonly customer_id: number;
  readonly status: Status;
  readonly amount: number;
  readonly created_at: string;
}
export interface OrderItem {
  readonly order_id: number;
  readonly line: number;
  readonly product_id: number;
  readonly quantity: number;
  readonly unit_price: number;
}

export interface Shop {
  readonly customers: readonly Customer[];
  readonly products: readonly Product[];
  readonly orders: readonly Order[];
  readonly order_items: readonly OrderItem[];
}

export interface ShopSize {
  readonly customers: number;
  readonly orders: number;
}
export const shopSize: ShopSize = { customers: 800, orders: 12_000 };

/**
 * `until` is when the newest order came in; orders are numbered as they came in. Who ordered what depends on the seed
 * alone; when, and how far it has got, on the hour of day as well.
 */
export function makeShop(seed: number, until: Date, size: ShopSize = shopSize): Shop {
  const random = new Random(seed);
  const clock = new Random(seed + 1);
  const customers = Array.from({ length: size.customers }, (_, i) => makeCustomer(random, i + 1));
  const products = catalog.map(([name, category, price], i) => ({ id: i + 1, name, category, price }));
  const orders: Order[] = [];
  const order_items: OrderItem[] = [];
  for (const age of agesOldestFirst(clock, size.orders, until)) {
    const items = makeItems(random, orders.length + 1, products);
    order_items.push(...items);
    const created_at = new Date(until.getTime() - age).toISOString();
    orders.push({
      id: orders.length + 1,
      customer_id: pickCustomer(random, customers),
      status: statusAtAge(clock, age),
      amount: total(items),
      created_at,
    });
  }
  return { customers, products, orders, order_items };
}

function makeCustomer(random: Random, id: number): Customer {
  const [given, family] = [random.pick(givenNames), random.pick(familyNames)];
  const [city, country] = random.pick(cities);
  const email = `${given}.${family}.${id}@example.com`
    .toLowerCase()
    .normalize("NFD")
    .replace(/[^a-z0-9.@]/g, "");
  return { id, name: `${given} ${family}`, email, city, country };
}

function makeItems(random: Random, orderId: number, products: readonly Product[]): OrderItem[] {
  const chosen = new Set(Array.from({ length: 1 + random.skewed(5) }, () => random.skewed(products.length)));
  return [...chosen].map((index, line) => {
    const product = products[index]!;
    const quantity = random.chance(0.75) ? 1 : random.whole(2, 4);
    return { order_id: orderId, line: line + 1, product_id: product.id, quantity, unit_price: product.price };
  });
}

function pickCustomer(random: Random, customers: readonly Customer[]): number {
  return customers[random.skewed(customers.length)]!.id;
}

/** Added up in cents: 0.1 + 0.2 is not 0.3. */
function total(items: readonly OrderItem[]): number {
  return items.reduce((sum, { quantity, unit_price }) => sum + quantity * Math.round(unit_price * 100), 0) / 100;
}

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const historyMs = 72 * hourMs;

/** More orders in the evening than before dawn, as shops have them. */
function agesOldestFirst(random: Random, count: number, until: Date): number[] {
  const ages = [0];
  while (ages.length < count) {
    const age = Math.floor(random.next() * historyMs);
    if (random.chance(customAt(new Date(until.getTime() - age)))) ages.push(age);
  }
  return ages.sort((a, b) => b - a);
}

/** From 0.4 at seven in the morning to 1 at seven in the evening, UTC. */
function customAt(time: Date): number {
  const hour = time.getUTCHours() + time.getUTCMinutes() / 60;
  return 0.7 - 0.3 * Math.cos(((hour - 7) / 24) * 2 * Math.PI);
}

/** How long an order usually waits before it moves on. */
const stages: readonly (readonly [Status, number])[] = [
  ["paid", 3 * minuteMs],
  ["packed", 12 * minuteMs],
  ["shipped", 35 * minuteMs],
  ["delivered", 14 * hourMs],
];

function statusAtAge(random: Random, ageMs: number): Status {
  if (random.chance(0.045)) return "cancelled";
  let status: Status = "pending";
  let left = ageMs;
  for (const [next, mean] of stages) {
    left -= random.wait(mean);
    if (left < 0) return status;
    status = next;
  }
  return status;
}
