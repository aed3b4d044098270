/** A test's own networks and files: namespaces made by unshare(1), as root or as the root of a user namespace. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type RunResult, runProgram } from './vproxy-process.js';

const found = new Map<string, readonly string[]>();

/** The unshare(1) command that makes these namespaces here, to be followed by a command. Throws if there is no way. */
export function unshareWords(namespaces: readonly string[]): readonly string[] {
  const key = namespaces.join(' ');
  const known = found.get(key);
  if (known !== undefined) return known;
  const errors: string[] = [];
  for (const users of [[], ['--map-root-user', '--map-auto'], ['--map-root-user']]) {
    const args = [...users, ...namespaces];
    const { status, stderr, error } = spawnSync('unshare', [...args, 'true'], { encoding: 'utf8' });
    if (status === 0) {
      const words = ['unshare', ...args];
      found.set(key, words);
      return words;
    }
    errors.push(error?.message ?? stderr.trim());
  }
  throw new Error(`the tests need namespaces (${key}), which unshare(1) cannot make here: ${errors.join('; ')}`);
}

export interface NetworkOptions {
  /** Networks, `ADDRESS/PREFIX` of either family, whose addresses all lead to this network itself. Default: none. */
  readonly routes?: readonly string[];
  /** A file that is `/etc/hosts` there. Default: the machine's. */
  readonly hostsFile?: string;
  /** A file that is `/etc/resolv.conf` there. Default: an empty one, so that no look-up has to time out. */
  readonly resolvConf?: string;
}

export interface NetworkRunOptions {
  /** Its whole environment except PATH and HOME. Default: empty. */
  readonly env?: Readonly<Record<string, string>>;
  /** The time after which it is killed, and its `code` is null. Default 60,000. */
  readonly timeoutMs?: number;
}

/** Standard input is the test process: the namespaces end with it. */
const HOLDER = `set -eu
mount --make-rprivate /
mount --bind "$1" /etc/resolv.conf
if [ -n "$2" ]; then mount --bind "$2" /etc/hosts; fi
shift 2
ip link set lo up
for route; do ip route add local "$route" dev lo; done
echo ready
exec cat
`;

/** A network whose only interface is `lo`. The caller that starts it stops it. */
export class OwnNetwork {
  /** The words before a command to run it in the network. */
  readonly launcher: readonly string[];
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess, hasUsers: boolean) {
    this.#holder = holder;
    const users = hasUsers ? ['--user', '--preserve-credentials'] : [];
    this.launcher = ['nsenter', `--target=${holder.pid}`, ...users, '--mount', '--net', '--'];
  }

  static async start({
    routes = [],
    hostsFile = '',
    resolvConf = '/dev/null',
  }: NetworkOptions = {}): Promise<OwnNetwork> {
    const unshare = unshareWords(['--mount', '--net']);
    const holder = await startHolder([...unshare, 'sh', '-c', HOLDER, 'sh', resolvConf, hostsFile, ...routes]);
    return new OwnNetwork(holder, unshare.includes('--map-root-user'));
  }

  run(command: readonly string[], options: NetworkRunOptions = {}): Promise<RunResult> {
    const { PATH = '', HOME = '/' } = process.env;
    const env = { PATH: `${PATH}:/usr/sbin:/sbin`, HOME, LC_ALL: 'C.UTF-8', ...options.env };
    return runProgram([...this.launcher, ...command], { ...options, env });
  }

  /** Ends the holder; the network ends with the last process in it. */
  stop(): Promise<void> {
    return endHolder(this.#holder);
  }
}

/** The holder of namespaces: a command that prints `ready` in them, and exits with its standard input. */
export async function startHolder([program = '', ...words]: readonly string[]): Promise<ChildProcess> {
  const holder = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')])) as [unknown];
  if (String(line) !== 'ready\n') throw new Error(`${program} ${words[0]}: namespaces could not be made`);
  return holder;
}

export async function endHolder(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return;
  const exited = once(holder, 'exit');
  holder.stdin?.end();
  await exited;
}
