/** Serial lines, FIFOs, AF_VSOCK. */
import { chmodSync, mkdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkPipe } from '../../../../cli/doctor/locations/pipe.js';
import { checkTty } from '../../../../cli/doctor/locations/serial-line.js';
import { checkVsock } from '../../../../cli/doctor/locations/vsock.js';
import { createFifos } from '../../../../lib/channel/pipe-open.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine, pretend } from '../../../helpers/machines.js';
import { openPty } from '../../../helpers/terminals.js';
import { doctorWithoutRights, type FindingCase } from './case.js';

const line = (t: ExecutionContext, path: string, machine: FakeMachine = {}) =>
  checkTty(fakeMachine(t, machine), path, false);

/** A line whose user's end no process has open. */
const terminal = async (t: ExecutionContext) => (await pretend(t, { program: 'terminal', terminal: true })).terminal;

async function fifos(t: ExecutionContext): Promise<string> {
  const path = join(temporaryFolder(t), 'vm1');
  await createFifos(path, { mode: 0o600, owner: null });
  return path;
}

const pipe = (t: ExecutionContext, path: string) => checkPipe(fakeMachine(t), path, false);

const vsock = (t: ExecutionContext, cid: number | null, machine: FakeMachine) =>
  checkVsock(
    fakeMachine(t, { hasKoffi: () => Promise.resolve(true), readCid: () => Promise.resolve(3), ...machine }),
    cid,
  );

const WITH_VSOCK = { files: { 'dev/vsock': '' } };

/** Each finding about them. */
export const LINE_CASES: readonly FindingCase[] = [
  { id: 'line-missing', when: 'there is no such device', find: (t) => line(t, join(temporaryFolder(t), 'ttyS9')) },
  { id: 'line-not', when: 'it is no terminal', find: (t) => line(t, '/dev/null') },
  { id: 'line-not', when: 'it is a folder', find: (t) => line(t, temporaryFolder(t)) },
  {
    id: 'line-denied',
    when: 'this user may not open it',
    async find(t) {
      const { path } = await openPty(t);
      chmodSync(path, 0);
      return doctorWithoutRights(t, '-c', `tty-open:${path}`);
    },
  },
  {
    id: 'line-console',
    when: 'the kernel writes its messages there',
    async find(t) {
      const path = await terminal(t);
      return line(t, path, { files: { 'sys/class/tty/console/active': `tty0 ${basename(path)}\n` } });
    },
  },
  {
    id: 'line-getty',
    when: 'a getty has it open',
    says: /agetty/,
    remedy: /systemctl disable --now/,
    async find(t) {
      const path = await terminal(t);
      await pretend(t, { program: 'agetty', open: [path] });
      return line(t, path);
    },
  },
  {
    id: 'line-taken',
    when: 'another program has it open',
    says: /is open in process \d+ \(minicom/,
    async find(t) {
      const path = await terminal(t);
      await pretend(t, { program: 'minicom', open: [path] });
      return line(t, path);
    },
  },
  { id: 'line-no-stty', when: 'there is no stty', find: async (t) => line(t, await terminal(t), { searchPath: '' }) },
  { id: 'line-free', when: 'nobody has it', find: async (t) => line(t, await terminal(t)) },
  {
    id: 'fifo-missing',
    when: 'one of them is missing',
    remedy: /vproxy pipe-create .*vm1$/,
    async find(t) {
      const path = await fifos(t);
      unlinkSync(`${path}.out`);
      return pipe(t, path);
    },
  },
  { id: 'fifo-suffix', when: 'the path has .in at its end', find: async (t) => pipe(t, `${await fifos(t)}.in`) },
  {
    id: 'fifo-not',
    when: 'a file is in the place of one',
    find(t) {
      const path = join(temporaryFolder(t), 'vm1');
      writeFileSync(`${path}.in`, '');
      mkdirSync(`${path}.out`);
      return pipe(t, path);
    },
  },
  {
    id: 'fifo-denied',
    when: 'this user may not open them',
    async find(t) {
      const path = await fifos(t);
      chmodSync(`${path}.in`, 0);
      return doctorWithoutRights(t, '-c', `pipe-open:${path}`);
    },
  },
  { id: 'fifo-alone', when: 'nobody has them open', find: async (t) => pipe(t, await fifos(t)) },
  {
    id: 'fifo-taken',
    when: 'another program has them open',
    says: /process \d+ \(cat/,
    async find(t) {
      const path = await fifos(t);
      await pretend(t, { program: 'qemu-system-x86', open: [`${path}.in`, `${path}.out`] });
      await pretend(t, { program: 'cat', open: [`${path}.out`] });
      return pipe(t, path);
    },
  },
  {
    id: 'fifo-qemu',
    when: 'QEMU has them open',
    async find(t) {
      const path = await fifos(t);
      await pretend(t, { program: 'qemu-system-x86', open: [`${path}.in`, `${path}.out`] });
      return pipe(t, path);
    },
  },
  { id: 'vsock-missing', when: 'there is no /dev/vsock', find: (t) => vsock(t, 2, {}) },
  {
    id: 'vsock-missing',
    when: 'there is no device behind it',
    find: (t) => vsock(t, 2, { ...WITH_VSOCK, readCid: () => Promise.resolve(null) }),
  },
  {
    id: 'vsock-no-koffi',
    when: 'koffi cannot be loaded',
    find: (t) => vsock(t, null, { ...WITH_VSOCK, hasKoffi: () => Promise.resolve(false) }),
  },
  { id: 'vsock-cid', when: 'it is there', says: /CID 3/, find: (t) => vsock(t, 2, WITH_VSOCK) },
  { id: 'vsock-own', when: 'the channel leads to this machine', find: (t) => vsock(t, 3, WITH_VSOCK) },
];
