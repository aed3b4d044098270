/** Whether memory grows with the number of operations: the second half of them is measured, the first one warms up. */
import type { ExecutionContext } from 'ava';
import { heapBytes } from '../helpers/measures.js';

interface Course {
  /** The name of the operations, for the figures: `opens`. */
  readonly name: string;
  readonly operations: number;
  readonly run: (count: number) => Promise<void> | void;
  /** Growth in the second half that counts as a leak, in bytes an operation. */
  readonly limitBytes: number;
}

const SAMPLES = 8;

/** Does all operations and fails the test where memory grows with them; the figures go to the log. */
export async function assertFlat(t: ExecutionContext, { name, operations, run, limitBytes }: Course): Promise<void> {
  const half = Math.floor(operations / 2);
  const what = `${operations.toLocaleString('en')} ${name}`;
  await run(half);
  let bytes = await growth(half, run);
  t.log(`${what}: ${bytes.toFixed(3)} bytes each in the second half (a leak from ${limitBytes} on)`);
  if (bytes >= limitBytes) {
    // A leak goes on; what V8 allocates once for itself does not.
    bytes = await growth(half, run);
    t.log(`${what}: ${bytes.toFixed(3)} bytes each in a third half`);
  }
  t.true(bytes < limitBytes, `${bytes.toFixed(3)} bytes are left behind by each of ${what}`);
}

/** The growth of the heap, in bytes an operation, while `count` of them are done. */
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

/** The slope of the straight line that fits points best: one odd measurement does not decide. */
function slope(points: readonly { readonly x: number; readonly y: number }[]): number {
  const meanX = points.reduce((sum, { x }) => sum + x, 0) / points.length;
  const products = points.reduce((sum, { x, y }) => sum + (x - meanX) * y, 0);
  return products / points.reduce((sum, { x }) => sum + (x - meanX) ** 2, 0);
}
