/**
 * Freezes file systems through a shell that is armed before the first freeze: it thaws when its time is over and when its input
 * ends, which it does however this process ends.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { VproxyError } from '../../errors.js';
import { spawned, startTurns } from '../../system/processes/children.js';
import { runTool } from '../../system/processes/run-tool.js';
import { deferred } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import type { ThawCause } from './freeze-messages.js';

/** Why they were thawed; `killed`: what froze them was. */
export type ThawEnd = ThawCause | 'killed';

/** Frozen file systems. */
export interface Frozen {
  /** Resolves when they are thawed; never rejects. */
  readonly thawed: Promise<ThawEnd>;
  /** Thaws them. */
  thaw(): void;
}

/** fsfreeze(8) may not be in the PATH of a service. That of busybox has only long options. */
const SBIN = 'PATH=$PATH:/usr/sbin:/sbin';

/**
 * Its arguments: the seconds, the number of file systems, these in order, and these in the order of the thaw. Two processes
 * wait, and either one thaws if the other is killed: the inner one for the time and the end of the input, the outer one for the
 * inner one. An fsfreeze that does not return is waited for, while the inner one thaws the rest. SIGTERM, which a service manager
 * sends to all of them, thaws, and must not end an fsfreeze.
 */
const SCRIPT = `
${SBIN}
limit=$1 count=$2
shift 2
frozen=$count
thaw() {
  trap '' TERM
  skip=$((2 * count - frozen))
  for path; do
    if [ "$skip" -gt 0 ]; then skip=$((skip - 1)); else fsfreeze --unfreeze "$path" 2> /dev/null; fi
  done
}
over=
trap 'over=1' TERM
trap '' HUP INT PIPE
exec 3<&0 < /dev/null
(
  trap - TERM
  cause=time
  if timeout "$limit" cat <&3 > /dev/null; then cause=asked; fi
  echo "cause $cause"
  kill -TERM $$
  thaw "$@"
) &
inner=$!
# The pipe of a killed parent stays open while one of its threads waits in a write.
(
  while kill -0 $$ && sleep 1 && read -r state < "/proc/$PPID/stat"; do
    case $state in *') Z '*) break ;; esac
  done
  kill -TERM $$
) > /dev/null 2>&1 &
watch=$!
frozen=0
for path; do
  if [ "$frozen" -eq "$count" ] || [ -n "$over" ]; then break; fi
  if ! message=$(trap '' TERM; fsfreeze --freeze "$path" 2>&1); then
    kill -KILL $inner
    echo "failed $message"
    over=1
    break
  fi
  frozen=$((frozen + 1))
  echo frozen
done
if [ -z "$over" ]; then
  echo ready
  wait $inner
fi
thaw "$@"
kill $watch
echo thawed
`;

/** Freezes mount points, in order. Rejects with `freeze-failed` when nothing is frozen any more. */
export async function freeze(paths: readonly string[], forMs: number): Promise<Frozen> {
  const args = [String(Math.floor(forMs / 1000)), String(paths.length), ...paths, ...[...paths].reverse()];
  const start = (): ChildProcessByStdio<Writable, Readable, null> =>
    spawn('/bin/sh', ['-c', SCRIPT, 'vproxy-freeze', ...args], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
  const child = await spawned(await startTurns.queue(() => Promise.resolve(start())));
  child.stdin.on('error', () => undefined);
  const thaw = (): void => void child.stdin.end();
  const ready = deferred();
  const thawed = deferred<ThawEnd>();
  let failure = 'the process that freezes was killed';
  let cause: ThawEnd = 'killed';
  let count = 0;
  const end = (): void => {
    ready.reject(new VproxyError('freeze-failed', escapeText(failure, MAX_MESSAGE_LENGTH)));
    thawed.resolve(cause);
  };
  const heard: Readonly<Record<string, (rest: string) => void>> = {
    frozen: () => void (count += 1),
    ready: () => ready.resolve(),
    failed: (message) => {
      failure = message;
      thaw();
    },
    cause(word) {
      cause = word === 'time' ? 'time' : 'asked';
      failure = 'the time was over before everything was frozen';
    },
    thawed: () => void (count = 0),
  };
  createInterface({ input: child.stdout })
    .on('line', (line) => {
      const [word = '', ...rest] = line.split(' ');
      heard[word]?.(rest.join(' '));
    })
    // If both processes of the shell were killed, some are still frozen.
    .once('close', () => void thawNow(paths.slice(0, count).reverse()).then(end));
  await ready.promise;
  return { thawed: thawed.promise, thaw };
}

const MAX_MESSAGE_LENGTH = 300;

/** Limit on one thaw, in milliseconds. */
const THAW_MS = 5000;

async function thawNow(paths: readonly string[]): Promise<void> {
  const script = `${SBIN}; fsfreeze --unfreeze "$1"`;
  for (const path of paths)
    await runTool(['/bin/sh', '-c', script, 'sh', path], { timeoutMs: THAW_MS }).catch(() => undefined);
}
