/** What a process shows first. */
export function newestOf(table: string): string {
  return `select * from ${table} order by id desc limit 50`;
}

export interface Shown {
  readonly ms: number;
  readonly newest: number;
}
