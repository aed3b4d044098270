/** A machine whose file systems are frozen only by name. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import { FreezeService } from '../../lib/services/freeze/freeze-service.js';
import type { ThawEnd } from '../../lib/services/freeze/freezer.js';
import { deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder } from './files.js';
import { ManualClock } from './time.js';

/** Its /proc/self/mountinfo. */
export const MOUNTS = `21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:5 / /proc rw - proc proc rw
24 23 7:0 / /srv/a\\040b rw - ext4 /dev/loop0 rw
23 21 254:2 / /srv rw - xfs /dev/vdb rw
25 21 254:1 /etc /run/sandbox/etc ro - ext4 /dev/vda1 rw
26 21 254:3 / /boot rw - vfat /dev/vdc rw
27 21 254:4 / /old ro - ext4 /dev/vdd ro
28 21 0:9 / /host rw - 9p share rw
`;

/** A machine with a freezer that only notes what it is told. */
export function freezableMachine(t: ExecutionContext) {
  const clock = new ManualClock();
  const hooks = temporaryFolder(t);
  const mountinfo = join(temporaryFolder(t), 'mountinfo');
  writeFileSync(mountinfo, MOUNTS);
  const events: LogEvent[] = [];
  const calls: (readonly [paths: readonly string[], forMs: number])[] = [];
  const thawed = deferred<ThawEnd>();
  const state = { failure: null as string | null };
  const service = new FreezeService({
    ...{ clock, hooks, mountinfo, log: (event) => void events.push(event) },
    freeze(mounts, forMs) {
      if (state.failure !== null) return Promise.reject(new VproxyError('freeze-failed', state.failure));
      calls.push([mounts.map(({ mountPoint }) => mountPoint), forMs]);
      return Promise.resolve({ thawed: thawed.promise, thaw: () => thawed.resolve({ cause: 'asked', failure: null }) });
    },
  });
  t.teardown(() => service.stop());
  return {
    clock,
    service,
    hooks,
    calls,
    thawed,
    state,
    messages: () => events.map(({ event, message }) => `${event}: ${message}`),
  };
}
