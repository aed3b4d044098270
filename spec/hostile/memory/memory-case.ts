/** The memory that a side keeps for one kind of item, of which its peer sends as many as it may. */
import test from 'ava';

export interface MemoryCase {
  /** The kind of item. */
  readonly title: string;
  /**
   * Sends items, and returns the bytes held then. `scale` is the part of the largest number to send:
   * above 0, and at most 1.
   */
  readonly hold: (scale: number) => Promise<number>;
  /** The number of bytes allowed, at any scale or at the given one. */
  readonly mostBytes: number | ((scale: number) => number);
}

export const holds = (title: string, mostBytes: MemoryCase['mostBytes'], hold: MemoryCase['hold']): MemoryCase => {
  return { title, mostBytes, hold };
};

/** Defines a test for each case. They run one after another, because they measure the memory of the whole process. */
export function testMemory(of: string, cases: readonly MemoryCase[], scale: number): void {
  for (const { title, hold, mostBytes } of cases) {
    test.serial(`${of}: ${title}`, async (t) => {
      const heldBytes = await hold(scale);
      const most = typeof mostBytes === 'number' ? mostBytes : mostBytes(scale);
      const figures = `${mebi(heldBytes)} are held, ${mebi(most)} are allowed`;
      t.log(figures);
      t.true(heldBytes <= most, figures);
    });
  }
}

const mebi = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(2)} MiB`;
