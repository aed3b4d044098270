/** Work on several items at once whose results are wanted in order. */

/**
 * What `work` gives for each item, in the order of the items, while it is done already for up to `count` that come behind.
 * Results that nobody takes any more, since something failed or the caller has stopped, go to `drop`.
 */
export async function* lookAhead<T, R>(
  items: AsyncIterable<T>,
  work: (item: T) => Promise<R>,
  count: number,
  drop: (result: R) => Promise<void> = () => Promise.resolve(),
): AsyncGenerator<R> {
  const queue: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      // A failure is met when its turn comes.
      result.catch(() => undefined);
      queue.push(result);
      if (queue.length >= count) yield await (queue.shift() as Promise<R>);
    }
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) yield await next;
  } finally {
    await Promise.allSettled(queue.map(async (result) => drop(await result)));
  }
}
