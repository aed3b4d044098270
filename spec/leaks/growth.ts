/** Whether memory grows with the number of operations: the second half of them is measured, the first one warms up. */
import type { ExecutionContext } from 'ava';
import { heapBytes } from './heap.js';

/** What is done again and again. */
export interface Course {
  /** What an operation is called, for the figures: `opens`. */
  readonly name: string;
  readonly operations: number;
  /** Does so many of them. */
  readonly run: (count: number) => Promise<void> | void;
  /** Growth in the second half that counts as a leak, in bytes an operation. */
  readonly limitBytes: number;
}

/** The second half is measured at so many points. */
const SAMPLES = 8;

/** Does all operations and fails the test where memory grows with them; the figures go to the log. */
export async function assertFlat(t: ExecutionContext, { name, operations, run, limitBytes }: Course): Promise<void> {
  const beforeBytes = await heapBytes();
  const startedAt = performance.now();
  const half = Math.floor(operations / 2);
  await run(half);
  const points: Point[] = [{ x: half, y: await heapBytes() }];
  for (let done = half; done < operations; ) {
    const count = Math.min(Math.ceil(half / SAMPLES), operations - done);
    await run(count);
    done += count;
    points.push({ x: done, y: await heapBytes() });
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const bytes = slope(points);
  const heaps = [beforeBytes, points[0]?.y ?? 0, points.at(-1)?.y ?? 0].map((value) => (value / 1e6).toFixed(3));
  const what = `${operations.toLocaleString('en')} ${name}`;
  t.log(`${what} in ${seconds.toFixed(1)} s: heap ${heaps.join(' → ')} MB (start, half way, end)`);
  t.log(`${what}: ${bytes.toFixed(3)} bytes each in the second half (a leak from ${limitBytes} on)`);
  t.true(bytes < limitBytes, `${bytes.toFixed(3)} bytes are left behind by each of ${what}`);
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
