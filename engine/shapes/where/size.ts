/**
 * How large a condition may be, so that neither reading one nor asking it of a row takes long: what it is made of, how deep that
 * lies, and how long the lists are in which values are looked up. These cost a row one look-up however long they are.
 */
export const nodesMax = 1_000;
export const elementsMax = 10_000;
export const depthMax = 200;

/** So many characters of a constant count as one node more. Of arrays and jsonb, each may be a value. */
const textPerNode = 128;
const valuesPerNode = 8;

export class Size {
  private nodes = 0;
  private elements = 0;

  /** Each of these gives what was expected, where there is too much by now. */
  addNode(depth: number): string | undefined {
    return depth > depthMax ? `at most ${depthMax} levels` : this.add(1);
  }

  addElement(): string | undefined {
    return ++this.elements > elementsMax ? `at most ${elementsMax} elements of lists` : undefined;
  }

  addText(length: number, isManyValues: boolean): string | undefined {
    return this.add(Math.floor(length / (isManyValues ? valuesPerNode : textPerNode)));
  }

  private add(nodes: number): string | undefined {
    this.nodes += nodes;
    return this.nodes > nodesMax ? `at most ${nodesMax} columns, constants and operators` : undefined;
  }
}
