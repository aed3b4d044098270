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
import { localServer } from '../../../helpers/proxies.js';
import { openPty } from '../../../helpers/terminals.js';
import { anywhere, atFifo, atLine, atStty, atVsock, doctorWithoutRights, finds } from './case.js';

const line = (t: ExecutionContext, path: string, machine: FakeMachine = {}) =>
  checkTty(fakeMachine(t, machine), path, false);

/** A terminal whose user end no process has open. */
const terminal = async (t: ExecutionContext) => (await pretend(t, { program: 'terminal', terminal: true })).terminal;

async function takenBy(t: ExecutionContext, program: string) {
  const path = await terminal(t);
  await pretend(t, { program, open: [path] });
  return line(t, path);
}

async function fifos(t: ExecutionContext): Promise<string> {
  const path = join(temporaryFolder(t), 'vm1');
  await createFifos(path, { mode: 0o600, owner: null });
  return path;
}

const pipe = (t: ExecutionContext, path: string) => checkPipe(fakeMachine(t), path, false);

/** FIFOs that a QEMU has open, one of them along with another program. */
async function pipeOfQemu(t: ExecutionContext, other?: string) {
  const path = await fifos(t);
  await pretend(t, { program: 'qemu-system-x86', open: [`${path}.in`, `${path}.out`] });
  if (other !== undefined) await pretend(t, { program: other, open: [`${path}.out`] });
  return pipe(t, path);
}

const vsock = (t: ExecutionContext, cid: number | null, machine: FakeMachine = {}) => {
  const usual = {
    files: { 'dev/vsock': '' },
    hasKoffi: () => Promise.resolve(true),
    readCid: () => Promise.resolve(3),
  };
  return checkVsock(fakeMachine(t, { ...usual, ...machine }), cid);
};

export const LINE_CASES = [
  atLine('channel-missing', 'the device does not exist', (t) => line(t, join(temporaryFolder(t), 'ttyS9'))),
  atLine('channel-unusable', 'it is not a terminal', (t) => line(t, '/dev/null')),
  atLine(
    'channel-unusable',
    'it is something else, which is named',
    /is a folder, .*\n.* is a file, .*\n.* is a FIFO, .*\n.* is a socket, not a device$/,
    async (t) => {
      const folder = temporaryFolder(t);
      await localServer(t, () => undefined, { path: `${folder}/socket` });
      writeFileSync(`${folder}/file`, '');
      const paths = [folder, `${folder}/file`, `${await fifos(t)}.in`, `${folder}/socket`];
      return (await Promise.all(paths.map((path) => line(t, path)))).flat();
    },
  ),
  atLine('channel-denied', 'this user may not open it', async (t) => {
    const { path } = await openPty(t);
    chmodSync(path, 0);
    return doctorWithoutRights(t, '-c', `tty-open:${path}`);
  }),
  atLine('channel-unusable', 'the kernel writes its messages there', async (t) => {
    const path = await terminal(t);
    return line(t, path, { files: { 'sys/class/tty/console/active': `tty0 ${basename(path)}\n` } });
  }),
  finds('line-getty', 'a getty has it open', { says: /agetty/, remedy: /systemctl mask --now/ }, (t) =>
    takenBy(t, 'agetty'),
  ),
  anywhere('channel-busy', 'another program has it open', /is open in process \d+ \(minicom/, (t) =>
    takenBy(t, 'minicom'),
  ),
  atStty('channel-unusable', 'there is no stty', async (t) => line(t, await terminal(t), { searchPath: '' })),
  finds('line-free', 'no process has it open', async (t) => line(t, await terminal(t))),
  finds('folder-missing', 'their folder is missing', (t) => pipe(t, '/nowhere/vm1')),
  atFifo('channel-missing', 'one of them is missing', { remedy: /vproxy pipe-create \S*vm1;/ }, async (t) => {
    const path = await fifos(t);
    unlinkSync(`${path}.out`);
    return pipe(t, path);
  }),
  atFifo('channel-missing', 'the path ends in .in', async (t) => pipe(t, `${await fifos(t)}.in`)),
  atFifo('channel-unusable', 'a file is in its place', (t) => {
    const path = join(temporaryFolder(t), 'vm1');
    writeFileSync(`${path}.in`, '');
    mkdirSync(`${path}.out`);
    return pipe(t, path);
  }),
  atFifo('channel-denied', 'this user may not open them', async (t) => {
    const path = await fifos(t);
    chmodSync(`${path}.in`, 0);
    return doctorWithoutRights(t, '-c', `pipe-open:${path}`);
  }),
  finds('fifo-alone', 'no process has them open', async (t) => pipe(t, await fifos(t))),
  anywhere('channel-busy', 'another program has one open', /process \d+ \(cat/, (t) => pipeOfQemu(t, 'cat')),
  finds('fifo-qemu', 'QEMU has them open', (t) => pipeOfQemu(t)),
  atVsock('channel-missing', 'there is no /dev/vsock', (t) => vsock(t, 2, { files: {} })),
  atVsock('channel-missing', 'there is no device', (t) => vsock(t, 2, { readCid: () => Promise.resolve(null) })),
  atVsock('channel-unusable', 'koffi cannot be loaded', (t) =>
    vsock(t, null, { hasKoffi: () => Promise.resolve(false) }),
  ),
  finds('vsock-cid', 'it exists', /CID 3/, (t) => vsock(t, 2)),
  finds('vsock-own', 'the channel leads to this machine', (t) => vsock(t, 3)),
];
