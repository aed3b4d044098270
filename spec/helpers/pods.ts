/** A machine of its own for containers: podman and buildah, with a storage and a network of a test's own, as root. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { endHolder, startHolder } from './namespaces.js';
import { type RunResult, runProgram } from './vproxy-process.js';

/**
 * Processes, mounts and network are its own, so nothing of it outlives it. What podman and crun keep of containers is in /run and /dev/shm. Where
 * a machine has both versions of control groups, crun works with the older one alone.
 */
const HOLDER = `set -eu
mount --make-rprivate /
for folder in /run /dev/shm; do mount -t tmpfs none "$folder"; done
mkdir /run/lock
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
ip link set lo up
echo ready
exec cat
`;

/** The caller that starts it stops it. */
export class PodHost {
  /** What the tools' commands have in their environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly #holder: ChildProcess;
  readonly #launcher: readonly string[];

  private constructor(holder: ChildProcess, env: Readonly<Record<string, string>>) {
    this.#holder = holder;
    this.env = env;
    // unshare waits for its child, which is the first process of the namespaces.
    const [child = ''] = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8').split(' ');
    this.#launcher = [`--target=${child}`, '--mount', '--net', '--pid', '--'];
  }

  /** With its storage in `folder`. */
  static async start(folder: string): Promise<PodHost> {
    const [storage, containers] = [join(folder, 'storage.conf'), join(folder, 'containers.conf')];
    mkdirSync(join(folder, 'images'));
    // vfs works on every file system, also on an overlay.
    writeFileSync(
      storage,
      `[storage]\ndriver = "vfs"\ngraphroot = "${join(folder, 'images')}"\nrunroot = "/run/images"\n`,
    );
    // Limits that a root without all rights can set, too.
    writeFileSync(
      containers,
      '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n',
    );
    const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const holder = await startHolder(['unshare', ...namespaces, 'sh', '-c', HOLDER]);
    return new PodHost(holder, { CONTAINERS_STORAGE_CONF: storage, CONTAINERS_CONF: containers });
  }

  run(command: readonly string[]): Promise<RunResult> {
    const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    const env = { PATH: path, HOME: '/root', LC_ALL: 'C.UTF-8', ...this.env };
    return runProgram(['nsenter', ...this.#launcher, ...command], { env, timeoutMs: 120_000 });
  }

  /** Runs a command that has to succeed, and gives what it prints. */
  async output(command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command);
    if (code !== 0) throw new Error(`${command.join(' ')} ended with status ${code}: ${stderr}`);
    return stdout;
  }

  /** Ends all that runs there. */
  async stop(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    await endHolder(this.#holder);
    removeControlGroups();
  }
}

/** Control groups are the machine's: those of podman that have no process any more go. One in use, by whomever, cannot be removed. */
function removeControlGroups(): void {
  const root = '/sys/fs/cgroup';
  const folders = [root, ...readdirSync(root).map((name) => join(root, name))].map((name) =>
    join(name, 'libpod_parent'),
  );
  for (const folder of folders.filter((name) => existsSync(name)))
    spawnSync('find', [folder, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { stdio: 'ignore' });
}
