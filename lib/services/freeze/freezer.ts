/**
 * Freezes file systems through a shell that is armed before the first freeze: it thaws when its time is over, and at the end of its
 * input, however this process ends. Both hold the file systems open, since their paths may change.
 */
import { type ChildProcessByStdio, type SpawnOptions, spawn } from 'node:child_process';
import { constants, promises as fs } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { VproxyError } from '../../errors.js';
import { withCapabilities } from '../../system/capabilities.js';
import { readText } from '../../system/files/optional-files.js';
import type { Mount } from '../../system/mounts.js';
import { listPids, statOf } from '../../system/proc/proc.js';
import { spawned, startTurns } from '../../system/processes/children.js';
import { systemClock } from '../../util/clock.js';
import { deferred } from '../../util/concurrency.js';
import { describeError, escapeText } from '../../util/escape.js';
import { orElse } from '../../util/or-else.js';
import type { ThawCause } from './freeze-messages.js';

/** `failure`: another program thawed one of them, the shell was killed, or one cannot be thawed. */
export interface ThawEnd {
  readonly cause: ThawCause;
  readonly failure: string | null;
}

export interface Frozen {
  /** Resolves when they are thawed, or cannot be; never rejects. */
  readonly thawed: Promise<ThawEnd>;
  thaw(): void;
}

/** A thaw that is this late gets SIGCONT: somebody may have stopped the shell's processes. */
const STOPPED_AFTER_MS = 1000;

/** The index of the session in the fields of `statOf`; all of the shell's processes share one. */
const SESSION = 3;

/** The shell's first descriptor of a file system: it uses lower ones itself. */
const FIRST_FD = 10;

/**
 * Arguments: the seconds, the number of file systems, their descriptors in the order of the freeze, and again in the order of the
 * thaw; or 0, 0, and those to thaw. fsfreeze(8) may not be in the PATH of a service, and busybox's has only long options. Two shells
 * wait, and either thaws if the other is killed: the inner one waits for the time and the end of the input, the outer one for the
 * inner one. Both report what they thawed. If an fsfreeze does not return, the outer one waits for it while the inner one thaws the
 * rest. SIGTERM, which a service manager sends to all of them, thaws, and must not end an fsfreeze. Only its children signal the
 * outer one, after checking that it is still their parent. The pipe of a killed parent stays open while one of its threads waits in
 * a write, and its number stays in use until then. An fsfreeze holds a copy of the output, which shows that it still runs when the shells are killed.
 */
const SCRIPT = `
PATH=$PATH:/usr/sbin:/sbin
LC_ALL=C
export LC_ALL
limit=$1 count=$2
shift 2
frozen=$count
thaw() {
  trap '' TERM
  skip=$((2 * count - frozen))
  for fd; do
    if [ "$skip" -gt 0 ]; then
      skip=$((skip - 1))
    elif message=$(fsfreeze --unfreeze "/proc/self/fd/$fd" 2>&1); then
      echo "let $fd"
    else
      echo "kept $fd $message"
    fi
  done
}
has_parent() { read -r _ _ _ parent _ < /proc/self/stat && [ "$parent" = $$ ]; }
if [ "$limit" -eq 0 ]; then
  thaw "$@"
  exit
fi
over=
trap 'over=1' TERM
trap '' HUP INT PIPE
exec 3<&0 < /dev/null
(
  trap - TERM
  cause=time
  if timeout "$limit" cat <&3 > /dev/null; then cause=asked; fi
  echo "cause $cause"
  if has_parent; then kill -TERM $$; fi
  thaw "$@"
) &
inner=$!
(
  while sleep 1 && has_parent && read -r state < "/proc/$PPID/stat"; do
    case $state in *') Z '*) break ;; esac
  done
  if has_parent; then kill -TERM $$; fi
) > /dev/null 2>&1 &
watch=$!
frozen=0
for fd; do
  if [ "$frozen" -eq "$count" ] || [ -n "$over" ]; then break; fi
  if ! { message=$(trap '' TERM; fsfreeze --freeze "/proc/self/fd/$fd" 2>&1); } 9>&1; then
    kill -KILL $inner
    echo "failed $fd $message"
    over=1
    break
  fi
  frozen=$((frozen + 1))
  echo "frozen $fd"
done
if [ -z "$over" ]; then
  echo ready
  wait $inner
fi
thaw "$@"
kill $watch
`;

/** Freezes mounted file systems, in order. Rejects with `freeze-failed` when nothing is frozen, or what is cannot be thawed. */
export async function freeze(mounts: readonly Mount[], forMs: number): Promise<Frozen> {
  const folders: FileHandle[] = [];
  const close = () => Promise.all(folders.map((folder) => folder.close()));
  try {
    for (const mount of mounts) folders.push(await openMount(mount));
    const frozen = await freezeOpen(mounts, folders, forMs);
    return { ...frozen, thawed: frozen.thawed.finally(close) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Opens a mount point, unless another one is there by now. Rejects with `freeze-failed`. */
async function openMount({ mountId, mountPoint }: Mount): Promise<FileHandle> {
  const name = escapeText(mountPoint, 200);
  const folder = await fs
    .open(mountPoint, constants.O_RDONLY | constants.O_DIRECTORY)
    .catch((error: unknown) => fail(`${name}: ${describeError(error)}`));
  const [, openedId] = /^mnt_id:\s*(\d+)$/m.exec(readText(`/proc/self/fdinfo/${folder.fd}`)) ?? [];
  if (openedId === mountId) return folder;
  await folder.close();
  return fail(`${name}: mounts have just changed`);
}

async function freezeOpen(mounts: readonly Mount[], folders: readonly FileHandle[], forMs: number): Promise<Frozen> {
  const fds = mounts.map((_mount, index) => String(FIRST_FD + index));
  const nameOf = (fd: string): string => escapeText(mounts[fds.indexOf(fd)]?.mountPoint ?? fd, 200);
  const ready = deferred();
  const thawed = deferred<ThawEnd>();
  /** Why the rest is still frozen. */
  const frozen = new Map<string, string>();
  const state = { failure: null as string | null, cause: null as ThawCause | null, isAsked: false, isKilled: false };
  const heard: Readonly<Record<string, (fd: string, message: string) => void>> = {
    frozen: (fd) => void frozen.set(fd, ''),
    ready: () => ready.resolve(),
    failed(fd, message) {
      state.failure = `${nameOf(fd)}: ${reasonOf(message)}`;
      child.stdin.end();
    },
    cause(word) {
      state.cause = word === 'time' ? 'time' : 'asked';
    },
    let: (fd) => void frozen.delete(fd),
    kept(fd, message) {
      if (frozen.has(fd)) frozen.set(fd, reasonOf(message));
    },
  };
  const hear = (line: string): void => {
    const [word = '', fd = '', ...message] = line.split(' ');
    heard[word]?.(fd, message.join(' '));
  };
  const end = (): void => {
    const { failure, cause, isKilled } = state;
    const texts: string[] = isKilled ? [KILLED] : [];
    for (const [fd, why] of frozen) {
      if (why !== NOT_FROZEN) texts.push(`${nameOf(fd)}: still frozen: ${why}`);
      // A killed process may not have reported what it did.
      else if (!isKilled) texts.push(`${nameOf(fd)}: another program had thawed it`);
    }
    if (isKilled && texts.length === 1) texts.push('all are thawed');
    const first = isKilled ? [] : [failure ?? TOO_LATE];
    ready.reject(new VproxyError('freeze-failed', [...first, ...texts].join('; ')));
    thawed.resolve({ cause: cause ?? 'asked', failure: texts.length === 0 ? null : texts.join('; ') });
  };
  const newest = [...fds].reverse();
  const start = (...args: readonly string[]) => startFreezer(['-c', SCRIPT, name, ...args], folders, hear);
  const name = `vproxy-freeze ${mounts.map(({ mountPoint }) => mountPoint).join(' ')}`.slice(0, 1024);
  const limitS = Math.floor(forMs / 1000);
  const beganMs = systemClock.now();
  const child = await start(String(limitS), String(fds.length), ...fds, ...newest);
  const goOn = (): void => {
    const isIn = (pid: number): boolean => statOf('/proc', pid)[SESSION] === String(child.pid);
    for (const pid of listPids('/proc').filter(isIn)) orElse(false, () => process.kill(pid, 'SIGCONT'));
  };
  let cancel = systemClock.schedule(forMs + STOPPED_AFTER_MS, goOn);
  let isOver = false;
  child.once('close', () => {
    isOver = true;
    cancel();
    // It may be killed when it has said why it thaws, but not yet what it thawed. A signal to one of its processes looks to the
    // others like what they wait for.
    const isSilent = state.cause === null || [...frozen.values()].includes('');
    const isDue = state.cause === 'time' ? systemClock.now() - beganMs >= limitS * 1000 : state.isAsked;
    state.isKilled = state.failure === null && (isSilent || !isDue);
    const rest = newest.filter((fd) => state.isKilled || (frozen.get(fd) ?? NOT_FROZEN) !== NOT_FROZEN);
    if (rest.length === 0) end();
    else
      start('0', '0', ...rest).then(
        (second) => second.once('close', end),
        (error: unknown) => {
          for (const fd of frozen.keys()) frozen.set(fd, describeError(error));
          end();
        },
      );
  });
  await ready.promise;
  const thaw = (): void => {
    state.isAsked = true;
    child.stdin.end();
    cancel();
    if (!isOver) cancel = systemClock.schedule(STOPPED_AFTER_MS, goOn);
  };
  return { thawed: thawed.promise, thaw };
}

type Freezer = ChildProcessByStdio<Writable, Readable, null>;

/** `hear` gets its lines. */
async function startFreezer(
  args: readonly string[],
  folders: readonly FileHandle[],
  hear: (line: string) => void,
): Promise<Freezer> {
  const options = {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', ...Array<string>(FIRST_FD - 2).fill('ignore'), ...folders.map(({ fd }) => fd)],
  };
  const start = () => spawn('/bin/sh', args, options as SpawnOptions) as Freezer;
  const child = await spawned(await startTurns.queue(() => Promise.resolve(withCapabilities(start))));
  child.stdin.on('error', () => undefined);
  createInterface({ input: child.stdout }).on('line', hear);
  return child;
}

const KILLED = 'the process that froze them was killed';

const TOO_LATE = 'time ran out before everything was frozen';

/** EINVAL: not frozen. */
const NOT_FROZEN = 'Invalid argument';

/** The system's error in a message from fsfreeze(8), or from a shell that cannot find it. */
const reasonOf = (message: string): string =>
  message.endsWith('not found')
    ? 'fsfreeze: not found'
    : escapeText(message.slice(message.lastIndexOf(':') + 1).trim(), 300);

function fail(message: string): never {
  throw new VproxyError('freeze-failed', message);
}
