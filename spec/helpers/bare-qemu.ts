/** A QEMU without a guest: it takes its arguments, has its chardevs, and its processor never starts. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Qmp } from '../vm/rig/qmp.js';
import { PROJECT_ROOT } from './project-root.js';
import { temporaryFolder } from './temp-folder.js';

/** Whether this machine has one, and setpriv(1), which ends it with the test. */
export const HAS_QEMU = ['qemu-system-x86_64', 'setpriv'].every(
  (program) => spawnSync(program, ['--version']).status === 0,
);

/** A running QEMU, which ends when the test does. */
export interface BareQemu {
  readonly pid: number;
  /** Its own words for what a chardev is joined to; they begin with `disconnected:` where nobody is at the other end of a socket. */
  chardev(id: string): Promise<string>;
  /** The names of its events so far. */
  readonly events: () => string[];
  /** What a command of its monitor returns. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>;
}

/**
 * Starts one with arguments as a user types them to a shell, in which `vproxy` is this project's. Rejects with what it says where it
 * does not take them.
 */
export async function startBareQemu(t: ExecutionContext, shellWords: string): Promise<BareQemu> {
  const path = join(temporaryFolder(t), 'qmp.sock');
  const qmp = await Qmp.listen(path);
  const monitor = `-chardev socket,id=qmp,path=${path} -mon chardev=qmp,mode=control`;
  const usual = `-S -nodefaults -display none -accel tcg -m 16 ${monitor}`;
  const vproxy = `vproxy() { '${process.execPath}' '${join(PROJECT_ROOT, 'dist/cli/vproxy.js')}' "$@"; }`;
  const script = `set -e; ${vproxy}; set -- ${shellWords}; exec setpriv --pdeathsig KILL qemu-system-x86_64 ${usual} "$@"`;
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  t.teardown(async () => {
    qmp.close();
    child.kill('SIGKILL');
    await ended;
  });
  const died = ended.then(() => {
    throw new Error(`QEMU ended: ${errors}`);
  });
  died.catch(() => undefined);
  const up = qmp.start();
  up.catch(() => undefined);
  await Promise.race([up, died]);
  return {
    pid: child.pid ?? 0,
    chardev: async (id) => {
      const chardevs = (await qmp.execute('query-chardev')) as { label: string; filename: string }[];
      return chardevs.find(({ label }) => label === id)?.filename ?? '';
    },
    events: () => qmp.events.map(({ event }) => event),
    execute: (command, args) => qmp.execute(command, args),
  };
}
