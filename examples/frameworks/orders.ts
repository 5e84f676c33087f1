/** What all of them show. */
export interface Order {
  readonly id: number;
  readonly status: string;
}

export const newest = "select id, status from orders order by id desc limit $1";

export const text = ({ id, status }: Order): string => `${id}: ${status}`;
