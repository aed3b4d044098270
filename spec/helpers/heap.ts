/** How much memory of this process is in use, without garbage. */
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// Also where Node was started without it: the quick specs run as all others do.
setFlagsFromString('--expose-gc');

/** Frees what nothing refers to. */
export const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes in the heap and in buffers outside of it that something still refers to. */
export async function heapBytes(): Promise<number> {
  // What a collection frees may hold something that only the next one frees; callbacks of the system run in between.
  for (let round = 0; round < 3; round += 1) {
    await setImmediate();
    collectGarbage();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
