/** Machines for the doctor that no test could have: folders in the place of /dev and /sys, whatever else is asked for. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Machine, type MachineOptions } from '../../cli/doctor/machine.js';
import { temporaryFolder } from './temp-folder.js';

/** What is different from the real machine. */
export interface FakeMachine extends Partial<MachineOptions> {
  /** Files by path below the fake root: `sys/class/virtio-ports/vport0p1/name`. */
  readonly files?: Readonly<Record<string, string>>;
  /** Links likewise, by what they lead to. */
  readonly links?: Readonly<Record<string, string>>;
}

/** What a busy machine may take to list its processes and sockets; specs in which something hangs say less. */
const UNHURRIED_MS = 30_000;

/** A machine whose /dev and /sys are folders of a test; /proc is the real one unless `proc` says otherwise. */
export function fakeMachine(t: ExecutionContext, { files = {}, links = {}, ...options }: FakeMachine = {}): Machine {
  return new Machine({
    ...fakeRoot(t, files, links),
    logs: [],
    controlFolder: null,
    timeoutMs: UNHURRIED_MS,
    ...options,
  });
}

/** The same, with /proc as a folder as well. */
export function fakeMachineWithProc(
  t: ExecutionContext,
  { files = {}, links = {}, ...options }: FakeMachine = {},
): Machine {
  const root = fakeRoot(t, files, links);
  const proc = join(root.dev, '../proc');
  return new Machine({ ...root, proc, logs: [], controlFolder: null, timeoutMs: UNHURRIED_MS, ...options });
}

function fakeRoot(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  links: Readonly<Record<string, string>>,
): Pick<MachineOptions, 'dev' | 'sys'> {
  const root = temporaryFolder(t);
  for (const folder of ['dev', 'sys', 'proc']) mkdirSync(join(root, folder));
  const place = (path: string): string => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    return join(root, path);
  };
  for (const [path, text] of Object.entries(files)) writeFileSync(place(path), text);
  for (const [path, target] of Object.entries(links)) symlinkSync(target, place(path));
  return { dev: join(root, 'dev'), sys: join(root, 'sys') };
}

/** The files of a port called `name`. */
export const portFiles = (name: string, device = 'vport0p1'): Record<string, string> => ({
  [`sys/class/virtio-ports/${device}/name`]: `${name}\n`,
});
