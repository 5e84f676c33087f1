/** A list of small numbers that is filled again and again: an Array that is emptied gives its memory away. */
export class Numbers {
  count = 0;
  private numbers = new Int32Array(16);

  at(place: number): number {
    return this.numbers[place]!;
  }

  add(number: number): void {
    if (this.count === this.numbers.length) this.double();
    this.numbers[this.count++] = number;
  }

  clear(): void {
    this.count = 0;
  }

  private double(): void {
    const { numbers } = this;
    this.numbers = new Int32Array(numbers.length * 2);
    this.numbers.set(numbers);
  }
}
