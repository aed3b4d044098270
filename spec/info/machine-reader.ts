/** What a machine says of itself: from files, from the system, and where some of it is missing or hangs. */
import test from 'ava';
import { MachineReader } from '../../lib/info/machine-reader.js';
import { thisMachine } from '../../lib/info/this-machine.js';
import { machineSchema } from '../../lib/status/machine-schemas.js';
import { systemClock } from '../../lib/util/clock.js';
import { type DescribedMachine, describedMachine } from '../helpers/machine-sources.js';
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

test('all of it, from the files of a machine', async (t) => {
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
  });
  // Nobody who serves a file system over a network, or from a program, was even asked.
  t.deepEqual(asked, ['/', '/srv/my data', '/home']);
});

test('without any file there are the name and the memory that the system knows, and null', async (t) => {
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

test('a file system that does not answer has no size, and until it does no other one is asked', async (t) => {
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

test('long lists and texts are cut to what an asker takes', async (t) => {
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

test('this machine says something of itself that an asker takes', async (t) => {
  const machine = await new MachineReader(thisMachine(), systemClock).read();
  t.deepEqual(machineSchema.parse(machine), machine);
  t.true(machine.memory.totalBytes > 2 ** 20);
  t.regex(machine.bootId ?? '', /^[0-9a-f-]{36}$/);
});
