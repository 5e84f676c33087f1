/** Lists of small numbers that are filled again and again, back to back: an Array that is emptied gives its memory away. */
export class Numbers {
  count = 0;
  private numbers = new Int32Array(16);
  private readonly ends: number[] = [];
  private lists = 0;

  at(place: number): number {
    return this.numbers[place]!;
  }

  add(number: number): void {
    if (this.count === this.numbers.length) this.double();
    this.numbers[this.count++] = number;
  }

  /** What is added from here on belongs to the next list. */
  endList(): void {
    this.ends[this.lists++] = this.count;
  }

  startOf(list: number): number {
    return list === 0 ? 0 : this.ends[list - 1]!;
  }

  endOf(list: number): number {
    return this.ends[list]!;
  }

  clear(): void {
    this.count = this.lists = 0;
  }

  private double(): void {
    const { numbers } = this;
    this.numbers = new Int32Array(numbers.length * 2);
    this.numbers.set(numbers);
  }
}
