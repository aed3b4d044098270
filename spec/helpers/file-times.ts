/** Times of files, which the system counts in steps of some milliseconds. */
import { lstatSync, writeFileSync } from 'node:fs';
import { eventually } from './eventually.js';

/** Resolved when a file that is made now is younger than the one at `path`, by what the system says of the two. */
export async function untilYounger(path: string): Promise<void> {
  const probe = `${path}.probe`;
  await eventually(() => {
    writeFileSync(probe, '');
    return lstatSync(probe).ctimeMs > lstatSync(path).ctimeMs;
  });
}
