/** Detects memory that grows with the number of operations: the first half warms up, the second is measured. */
import type { ExecutionContext } from 'ava';
import { heapBytes } from '../helpers/measures.js';

interface Course {
  /** The name of the operations, for the figures: `opens`. */
  readonly name: string;
  readonly operations: number;
  readonly run: (count: number) => Promise<void> | void;
  /** Growth in the second half that counts as a leak, in bytes per operation. */
  readonly limitBytes: number;
}

const SAMPLES = 8;

/** Runs all operations and fails the test if memory grows with them; logs the figures. */
export async function assertFlat(t: ExecutionContext, { name, operations, run, limitBytes }: Course): Promise<void> {
  const half = Math.floor(operations / 2);
  const what = `${operations.toLocaleString('en')} ${name}`;
  await run(half);
  let bytes = await growth(half, run);
  t.log(`${what}: ${bytes.toFixed(3)} bytes each in the second half (a leak from ${limitBytes} on)`);
  if (bytes >= limitBytes) {
    // A leak continues; one-time allocations of V8 do not.
    bytes = await growth(half, run);
    t.log(`${what}: ${bytes.toFixed(3)} bytes each in a third half`);
  }
  t.true(bytes < limitBytes, `${bytes.toFixed(3)} bytes are left behind by each of ${what}`);
}

/** The growth of the heap during `count` operations, in bytes per operation. */
async function growth(count: number, run: Course['run']): Promise<number> {
  const points = [{ x: 0, y: await heapBytes() }];
  for (let done = 0; done < count; ) {
    const next = Math.min(Math.ceil(count / SAMPLES), count - done);
    await run(next);
    done += next;
    points.push({ x: done, y: await heapBytes() });
  }
  return slope(points);
}

/** The slope of the best-fitting straight line, so that a single outlier does not decide. */
function slope(points: readonly { readonly x: number; readonly y: number }[]): number {
  const meanX = points.reduce((sum, { x }) => sum + x, 0) / points.length;
  const products = points.reduce((sum, { x, y }) => sum + (x - meanX) * y, 0);
  return products / points.reduce((sum, { x }) => sum + (x - meanX) ** 2, 0);
}
