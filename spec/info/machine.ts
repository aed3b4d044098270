/** Facts about a machine and its boot progress: from files, tools and the system. */
import test from 'ava';
import { readBoot } from '../../lib/services/info/boot.js';
import { judgeBoot } from '../../lib/services/info/judge-boot.js';
import { MachineReader } from '../../lib/services/info/machine-reader.js';
import { thisMachine } from '../../lib/services/info/this-machine.js';
import { machineSchema } from '../../lib/status/machine-schemas.js';
import type { BootState, BootStatus } from '../../lib/status/types.js';
import { systemClock } from '../../lib/util/clock.js';
import { type DescribedMachine, describedMachine, SYSTEMD } from '../helpers/machine-sources.js';
import { eventually, ManualClock } from '../helpers/time.js';

const MOUNTS = `21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:20 / /proc rw - proc proc rw
23 21 0:21 / /run rw,nosuid - tmpfs tmpfs rw,size=1g
24 21 254:2 / /srv/my\\040data rw master:2 - xfs /dev/vdb rw
25 21 254:1 /var/log /srv/log rw - ext4 /dev/vda1 rw
26 21 0:40 / /home rw - btrfs /dev/vdc rw,subvol=/home
27 21 0:41 / /net rw - nfs4 server:/export rw
28 21 0:42 / /shared rw - virtiofs shared rw
29 21 8:16 / /usb rw - fuseblk /dev/sdb rw
30 21 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
31 21 254:3 / /hidden rw - ext4 /dev/vdd rw
32 21 0:43 / /hidden rw - nfs server:/other rw
33 21 254:4 / /cluster rw - ocfs2 /dev/vde rw
`;

const FILES = {
  '/etc/hostname': '# ours\n\nvm1\n',
  '/etc/os-release': `NAME="Debian"\nID=debian\nVERSION_ID='13'\nPRETTY_NAME="A \\"good\\" \\$ystem"\n`,
  '/proc/sys/kernel/random/boot_id': '0b1c0000-0000-0000-0000-000000000001\n',
  '/proc/meminfo':
    'MemTotal:        2000 kB\nMemFree:          1 kB\nMemAvailable:    1500 kB\nSwapTotal:         10 kB\nSwapFree:           4 kB\n',
  '/proc/self/mountinfo': MOUNTS,
};

const SIZE = { bsize: 4096, blocks: 100, bfree: 50, bavail: 40 };

const read = (t: Parameters<typeof describedMachine>[0], machine: DescribedMachine) =>
  new MachineReader(describedMachine(t, machine), systemClock).read();

test('all facts, from the files of a machine', async (t) => {
  const asked: string[] = [];
  const machine = await read(t, {
    files: FILES,
    statfs: (path) => {
      asked.push(path);
      return path === '/home' ? Promise.reject(new Error('EACCES')) : Promise.resolve(SIZE);
    },
  });
  const size = { sizeBytes: 409_600, freeBytes: 204_800, availableBytes: 163_840 };
  t.deepEqual(machine, {
    hostName: 'vm1',
    os: { id: 'debian', versionId: '13', name: 'A "good" $ystem' },
    kernel: { name: 'Linux', release: '6.1.0', architecture: 'x86_64' },
    bootId: '0b1c0000-0000-0000-0000-000000000001',
    uptimeS: 3725.5,
    processors: 2,
    load: [0.5, 0.25, 0.125],
    memory: { totalBytes: 2_048_000, availableBytes: 1_536_000, swapTotalBytes: 10_240, swapFreeBytes: 4096 },
    disks: [
      { mountPoint: '/', device: '/dev/vda1', type: 'ext4', ...size },
      { mountPoint: '/srv/my data', device: '/dev/vdb', type: 'xfs', ...size },
      {
        ...{ mountPoint: '/home', device: '/dev/vdc', type: 'btrfs' },
        sizeBytes: null,
        freeBytes: null,
        availableBytes: null,
      },
    ],
    interfaces: [{ name: 'eth0', mac: '52:54:00:12:34:56', addresses: ['192.0.2.7/24'] }],
    boot: { systemd: null, systemdError: null, failedUnits: [], cloudInit: null, cloudInitError: null },
    history: { restoredAt: null, clockSteppedAt: null, clockSteppedByMs: null, frozenAt: null, refusedOptions: null },
  });
  // File systems served over a network, or by a program, were not even queried.
  t.deepEqual(asked, ['/', '/srv/my data', '/home']);
});

test('without any file there are the name and the memory known to the system, and null', async (t) => {
  const machine = await read(t, {
    os: {
      networkInterfaces: () => {
        throw new Error('uv_interface_addresses returned EAFNOSUPPORT');
      },
    },
  });
  t.like(machine, { hostName: 'transient', os: null, bootId: null, disks: [], interfaces: [] });
  t.deepEqual(machine.memory, {
    totalBytes: 4_000_000,
    availableBytes: 1_000_000,
    swapTotalBytes: 0,
    swapFreeBytes: 0,
  });
});

test('a file system that does not answer has no size, and until it does no other is queried', async (t) => {
  const clock = new ManualClock();
  let asked = 0;
  let answer: (size: typeof SIZE) => void = () => undefined;
  const statfs = () => {
    asked += 1;
    return new Promise<typeof SIZE>((resolve) => (answer = resolve));
  };
  const reader = new MachineReader(describedMachine(t, { files: FILES, statfs }), clock);
  const sizes = async () => (await reader.read()).disks.map(({ sizeBytes }) => sizeBytes);
  const first = sizes();
  await eventually(() => asked === 1);
  clock.advance(1000);
  t.deepEqual(await first, [null, null, null]);
  t.deepEqual(await sizes(), [null, null, null]);
  t.is(asked, 1);
  answer(SIZE);
  const third = sizes();
  await eventually(() => {
    answer(SIZE);
    return asked === 4;
  });
  answer(SIZE);
  t.deepEqual(await third, [409_600, 409_600, 409_600]);
});

test('long lists and texts are cut to what a client accepts', async (t) => {
  const long = 'x'.repeat(5000);
  const mounts = Array.from(
    { length: 100 },
    (_, index) => `1 1 8:${index} / /${index}${long} rw - ext4 /dev/${long} rw`,
  );
  const address = { address: '::1', netmask: '', family: 'IPv6', mac: '00:00:00:00:00:00', internal: true } as const;
  const many = Array.from({ length: 100 }, () => ({ ...address, scopeid: 0, cidr: '::1/128' }));
  const machine = await read(t, {
    files: { '/etc/hostname': long, '/etc/os-release': `ID=${long}`, '/proc/self/mountinfo': mounts.join('\n') },
    os: { networkInterfaces: () => Object.fromEntries(mounts.map((_, index) => [`eth${index}`, many])) },
    statfs: () => Promise.resolve(SIZE),
  });
  t.is(machineSchema.safeParse(machine).error, undefined);
  t.deepEqual([machine.disks.length, machine.interfaces.length, machine.interfaces[0]?.addresses.length], [64, 64, 32]);
  t.is(machine.interfaces[0]?.mac, null);
});

test('the facts about this machine are acceptable to a client', async (t) => {
  const machine = await new MachineReader(thisMachine(), systemClock).read();
  t.deepEqual(machineSchema.parse(machine), machine);
  t.true(machine.memory.totalBytes > 2 ** 20);
  t.regex(machine.bootId ?? '', /^[0-9a-f-]{36}$/);
});

const ASK = 'systemctl is-system-running';
const LIST = 'systemctl list-units --state=failed --plain --no-legend --full --no-pager';

const NOTHING: BootState = {
  systemd: null,
  systemdError: null,
  failedUnits: [],
  cloudInit: null,
  cloudInitError: null,
};

type Tools = NonNullable<DescribedMachine['tools']>;

const failing = (...units: string[]): Tools => ({
  [ASK]: { end: 1, stdout: 'degraded\n' },
  [LIST]: { stdout: units.map((unit) => `${unit} loaded failed failed Something of it\n`).join('') },
});

const cloudInit = (files: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`/run/cloud-init/${name}`, text]));
const done = (errors: readonly string[]) => JSON.stringify({ v1: { datasource: 'DataSourceNoCloud', errors } });
const stages = (recoverable: object) =>
  JSON.stringify({ v1: { stage: null, init: { errors: [], recoverable_errors: recoverable, start: 1, finished: 2 } } });

type Case = readonly [
  title: string,
  machine: DescribedMachine,
  state: Partial<BootState>,
  verdict: BootStatus['verdict'],
  remarks?: readonly string[],
];

const saying = (word: BootState['systemd'], verdict: BootStatus['verdict'], ...remarks: string[]): Case => [
  `systemd is ${word ?? ''}`,
  { files: SYSTEMD, tools: { [ASK]: { end: word === 'running' ? 0 : 1, stdout: `${word ?? ''}\n` } } },
  { systemd: word },
  verdict,
  remarks,
];

const silent = (title: string, answer: Tools[string] | null, systemdError: string): Case => [
  title,
  { files: SYSTEMD, ...(answer && { tools: { [ASK]: answer } }) },
  { systemd: 'unknown', systemdError },
  'booting',
  [`cannot query systemd: ${systemdError}`],
];

const CASES: readonly Case[] = [
  ['without systemd and cloud-init whatever answers is booted', {}, {}, 'booted'],
  saying('running', 'booted'),
  saying('initializing', 'booting', 'systemd is initializing'),
  saying('starting', 'booting', 'systemd is starting'),
  saying('stopping', 'booting', 'systemd is stopping'),
  saying('maintenance', 'failed', 'systemd is in maintenance: its rescue or emergency mode'),
  silent('there is no D-Bus', { end: 1, stderr: 'Failed to connect to bus: No\n' }, 'Failed to connect to bus: No'),
  silent('systemctl prints something else', { end: 1, stdout: 'perfect\n' }, 'systemctl exited with 1'),
  silent('systemctl is missing', null, 'spawn systemctl ENOENT'),
  silent('systemctl hangs', { end: 'too-slow' }, 'systemctl timed out'),
  [
    'systemd is degraded: the units that failed are named',
    { files: SYSTEMD, tools: failing('a.service', 'b\\x2dc.mount') },
    { systemd: 'degraded', failedUnits: ['a.service', 'b\\x2dc.mount'] },
    'failed',
    ['systemd is degraded: a.service, b\\\\x2dc.mount failed'],
  ],
  [
    'cloud-init is enabled, and has not begun',
    { files: cloudInit({ enabled: '' }) },
    { cloudInit: 'not-started' },
    'booting',
    ['cloud-init has not started'],
  ],
  ['cloud-init is disabled', { files: cloudInit({ disabled: '' }) }, { cloudInit: 'disabled' }, 'booted'],
  [
    'cloud-init is running',
    { files: cloudInit({ enabled: '', 'status.json': stages({}) }) },
    { cloudInit: 'running' },
    'booting',
    ['cloud-init is running'],
  ],
  [
    'cloud-init is done',
    { files: cloudInit({ 'status.json': stages({}), 'result.json': done([]) }) },
    { cloudInit: 'done' },
    'booted',
  ],
  [
    'cloud-init is done, with what it has recovered from',
    { files: cloudInit({ 'status.json': stages({ WARNING: ['old\nkey'] }), 'result.json': done([]) }) },
    { cloudInit: 'degraded', cloudInitError: 'old\nkey' },
    'booted',
    ['cloud-init recovered from an error: old\\nkey'],
  ],
  [
    'cloud-init has failed',
    { files: cloudInit({ 'status.json': stages({}), 'result.json': done(['no disk', 'no net']) }) },
    { cloudInit: 'error', cloudInitError: 'no disk' },
    'failed',
    ['cloud-init failed: no disk'],
  ],
  [
    'a service of cloud-init has failed, and there will be no result',
    { files: { ...SYSTEMD, ...cloudInit({ 'status.json': '{' }) }, tools: failing('cloud-final.service') },
    {
      ...{ systemd: 'degraded', failedUnits: ['cloud-final.service'] },
      ...{ cloudInit: 'error', cloudInitError: 'cloud-final.service failed' },
    },
    'failed',
    ['systemd is degraded: cloud-final.service failed', 'cloud-init failed: cloud-final.service failed'],
  ],
  [
    'systemd is degraded while cloud-init is running: that is waited for',
    { files: { ...SYSTEMD, ...cloudInit({ 'status.json': stages({}) }) }, tools: failing('a.service') },
    { systemd: 'degraded', failedUnits: ['a.service'], cloudInit: 'running' },
    'booting',
    ['cloud-init is running'],
  ],
];

for (const [title, machine, state, verdict, remarks = []] of CASES) {
  test(title, async (t) => {
    const found = await readBoot(describedMachine(t, machine));
    t.deepEqual(found, { ...NOTHING, ...state });
    t.deepEqual(judgeBoot(found), { verdict, remarks });
  });
}

test('at most 32 failed units are listed, and a long reason is cut', async (t) => {
  const units = Array.from({ length: 40 }, (_, index) => `unit-${index}.service`);
  const { failedUnits } = await readBoot(describedMachine(t, { files: SYSTEMD, tools: failing(...units) }));
  t.deepEqual(failedUnits, units.slice(0, 32));
  const tools = { [ASK]: { end: 1, stderr: 'x'.repeat(1000) } };
  const { systemdError } = await readBoot(describedMachine(t, { files: SYSTEMD, tools }));
  t.is(systemdError, 'x'.repeat(256));
});
