/** Whether memory grows with the number of operations: the second half of them is measured, the first one warms up. */
import type { ExecutionContext } from 'ava';
import { heapBytes } from '../helpers/measures.js';

export interface Course {
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
  const points: Point[] = [{ x: 0, y: await heapBytes() }];
  for (let done = 0; done < count; ) {
    const next = Math.min(Math.ceil(count / SAMPLES), count - done);
    await run(next);
    done += next;
    points.push({ x: done, y: await heapBytes() });
  }
  return slope(points);
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** The slope of the straight line that fits points best: one odd measurement does not decide. */
export function slope(points: readonly Point[]): number {
  const mean = (key: keyof Point): number => points.reduce((sum, point) => sum + point[key], 0) / points.length;
  const center = { x: mean('x'), y: mean('y') };
  let products = 0;
  let squares = 0;
  for (const { x, y } of points) {
    products += (x - center.x) * (y - center.y);
    squares += (x - center.x) ** 2;
  }
  return products / squares;
}
