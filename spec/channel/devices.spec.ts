/** Devices: terminal lines, and virtio-serial ports. */
import { execFile } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { ttyKind, ttyOpen } from '../../lib/channel/tty-open.js';
import { whyNoPort } from '../../lib/channel/virtio-ports.js';
import { virtserialKind } from '../../lib/channel/virtserial.js';
import { VproxyError } from '../../lib/errors.js';
import {
  deviceAccess,
  openDeviceLink,
  openHandleLink,
  PollingLink,
  restoreDeviceLink,
} from '../../lib/link/device-link.js';
import { channelError, type Link } from '../../lib/link/link.js';
import { SocketLink, type SocketLinkOptions } from '../../lib/link/socket-link.js';
import { withRemedy } from '../../lib/remedies.js';
import { openPipeHandle, pipeSocket, pollAgain } from '../../lib/system/handles.js';
import type { Clock } from '../../lib/util/clock.js';
import {
  DEVICE_FLAGS,
  dial,
  dialKind,
  LinkRecorder,
  makeFifo,
  patiently,
  record,
  refuses,
} from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { openFiles } from '../helpers/measures.js';
import { openPty, openPtyPair } from '../helpers/terminals.js';
import { eventually, ManualClock } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const run = promisify(execFile);

/** A terminal in login mode: it echoes, edits lines, and changes bytes; and a check that its settings are unchanged. */
async function openCooked(t: ExecutionContext) {
  const { path } = await openPty(t);
  const stty = async (...words: string[]) => (await run('stty', ['-F', path, ...words])).stdout;
  await stty('sane', '9600');
  const before = await stty('-g');
  return { path, stty, isAsBefore: async () => (await stty('-g')) === before };
}

/** Without a deadline for stty, which may be slow on a busy machine. */
const dialTty = (t: ExecutionContext, device: string): Promise<Link> =>
  dialKind(t, ttyKind('/sys', new ManualClock()), { path: device, baud: 115_200 });

test('the line is raw and fast while it has a link, started or not, and as before afterwards', async (t) => {
  const { path, stty, isAsBefore } = await openCooked(t);
  for (const [how, isStarted] of [
    ['close', true],
    ['destroy', true],
    ['destroy', false],
  ] as const) {
    const link = await dialTty(t, path);
    const meanwhile = await stty('-a');
    for (const setting of ['speed 115200', '-icanon', '-echo ', '-opost', '-iexten', '-ixon', 'cs8', 'clocal']) {
      t.true(meanwhile.includes(setting), `${setting} in ${meanwhile}`);
    }
    if (!isStarted) link[how]();
    const handler = record(link);
    link[how]();
    t.is((await handler.closed).code, 'shutdown');
    t.true(await isAsBefore(), how);
  }
});

test('without a baud rate the line keeps its speed', async (t) => {
  const { path, stty } = await openCooked(t);
  await dial(t, `tty-open:${path}`);
  t.regex(await stty('-a'), /speed 9600 baud/);
});

// Its fake stty comes first in the PATH of this process.
test.serial('while a line is opened and closed, stty leads no session, and the line stays open', async (t) => {
  const { path } = await openCooked(t);
  // A line would become the controlling terminal of such a session, and be hung up for everyone when it ends. Unlike a
  // UART, a pseudo-terminal is not hung up then, so the test looks at the process that runs stty.
  const folder = temporaryFolder(t);
  const [seen, held] = [join(folder, 'seen'), join(folder, 'held')];
  const stty = `#!/bin/sh
cut -d ' ' -f 1,6 /proc/$$/stat >> '${seen}'
readlink /proc/$PPID/fd/* | grep -cx '${path}' >> '${held}'
PATH=\${PATH#*:} exec stty "$@"
`;
  writeFileSync(join(folder, 'stty'), stty, { mode: 0o755 });
  const before = process.env['PATH'] ?? '';
  t.teardown(() => (process.env['PATH'] = before));
  process.env['PATH'] = `${folder}:${before}`;
  const link = await dialTty(t, path);
  const handler = record(link);
  link.close();
  await handler.closed;
  const lines = readFileSync(seen, 'utf8').trim().split('\n');
  t.true(lines.length >= 3);
  for (const line of lines) t.notRegex(line, /^(\d+) \1$/);
  // Another device may have the path of a line that is closed.
  for (const count of readFileSync(held, 'utf8').trim().split('\n')) t.not(count, '0');
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test.serial(`${signal} makes vproxy restore the settings`, async (t) => {
    const { path, isAsBefore } = await openCooked(t);
    const vproxy = spawnVproxy(t, ['-c', `tty-open:${path}`, '--no-storage']);
    await vproxy.waitForLine(/no answer on tty-open:/);
    t.false(await isAsBefore());
    vproxy.kill(signal);
    t.deepEqual(await vproxy.exited, { code: 0, signal: null });
    t.true(await isAsBefore());
  });
}

test.serial('a bug that crashes the process leaves the settings as they were', async (t) => {
  const { path, isAsBefore } = await openCooked(t);
  const script = `
    import { ttyOpen } from ${JSON.stringify(new URL('../../lib/channel/tty-open.js', import.meta.url).href)};
    const report = { waiting() {} };
    await ttyOpen.dial(ttyOpen.parse(${JSON.stringify(path)}), { signal: new AbortController().signal, report });
    throw new Error('a defect');`;
  await t.throwsAsync(run(process.execPath, ['--input-type=module', '-e', script]), { code: 1 });
  t.true(await isAsBefore());
});

const refusesTty = (t: ExecutionContext, device: string, code: string, says: string, kind = ttyOpen) =>
  refuses(t, dialKind(t, kind, kind.parse(device)), code, says, `tty-open:${device}`);

test('anything but a terminal line is refused and not changed', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'regular');
  writeFileSync(file, 'precious');
  await refusesTty(t, join(folder, 'none'), 'channel-missing', 'none is missing (ENOENT)');
  await refusesTty(t, file, 'channel-unusable', 'not a device');
  await refusesTty(t, folder, 'channel-unusable', 'not a device');
  await refusesTty(t, '/dev/null', 'channel-unusable', 'not a terminal');
  t.is(readFileSync(file, 'utf8'), 'precious');
});

test('a kernel console is refused', async (t) => {
  const sys = temporaryFolder(t);
  const pty = await openPty(t);
  mkdirSync(join(sys, 'class/tty/console'), { recursive: true });
  writeFileSync(join(sys, 'class/tty/console/active'), `tty0 ${basename(pty.path)}\n`);
  await refusesTty(t, pty.path, 'channel-unusable', 'the console', ttyKind(sys));
});

test('a pseudo-terminal is not the host, and cannot take the place of a line that was', async (t) => {
  const { path, isAsBefore } = await openCooked(t);
  const link = join(temporaryFolder(t), 'line');
  symlinkSync('/dev/null', link);
  const address = { path: link, baud: null };
  t.true(ttyOpen.leadsToHost?.(address));
  rmSync(link);
  symlinkSync(path, link);
  await t.throwsAsync(dialKind(t, ttyOpen, address), { code: 'channel-unusable', message: /a pseudo-terminal/ });
  t.true(await isAsBefore());
  t.false(ttyOpen.leadsToHost?.(address));
  await dialKind(t, ttyOpen, address);
});

test('cancelling an open restores the settings', async (t) => {
  const { path, isAsBefore } = await openCooked(t);
  const abort = new AbortController();
  const attempt = dial(t, `tty-open:${path}`, { ...patiently(), signal: abort.signal });
  abort.abort();
  await t.throwsAsync(attempt, { instanceOf: VproxyError, code: 'shutdown' });
  t.true(await isAsBefore());
});

// Virtio-serial ports.

/** Folders without ports, in place of a guest's `/dev` and `/sys`. */
function makeGuest(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  for (const name of ['dev/virtio-ports', 'sys/class/virtio-ports']) mkdirSync(join(folder, name), { recursive: true });
  return { dev: join(folder, 'dev'), sys: join(folder, 'sys') };
}
type Guest = ReturnType<typeof makeGuest>;

/** Adds a port: its name in sysfs, and its device, a stand-in. */
function addPort(guest: Guest, device: string, name: string | null, target: string): void {
  const folder = join(guest.sys, 'class/virtio-ports', device);
  mkdirSync(folder);
  if (name !== null) writeFileSync(join(folder, 'name'), `${name}\n`);
  symlinkSync(target, join(guest.dev, device));
}

function dialPort(t: ExecutionContext, address: string, guest = makeGuest(t)): Promise<Link> {
  const kind = virtserialKind(guest);
  return dialKind(t, kind, kind.parse(address));
}

const refusesPort = (t: ExecutionContext, address: string, guest: Guest, code: string, says: string) =>
  refuses(t, dialPort(t, address, guest), code, says, `virtserial-open:${address}`);

function openPollingLink(t: ExecutionContext, device: string): Link {
  const link = new PollingLink('polling', openSync(device, DEVICE_FLAGS));
  t.teardown(() => link.destroy());
  return link;
}

for (const [name, open, ...codes] of [
  ['tty-open', dialTty, 'channel-closed'],
  ['virtserial-open', dialPort, 'channel-closed', 'channel-failed'],
  ['the fallback that polls', openPollingLink, 'channel-closed', 'channel-failed'],
] as const) {
  test(`${name}: the link ends once when the other end leaves, even with pending writes`, async (t) => {
    const pty = await openPty(t);
    const link = await open(t, pty.path);
    const handler = record(link);
    while (link.write(Buffer.alloc(4096)));
    pty.hangUp();
    const reason = await handler.closed;
    const isExpected = codes.some((code) => code === reason.code);
    t.true(isExpected, `${reason.code}: ${reason.message}`);
    t.is(handler.closings.length, 1);
  });
}

test('what the host sent before the port was opened comes first', async (t) => {
  const pty = await openPty(t);
  pty.input.write('!early ');
  await takeFirstByte(pty.path);
  const link = await dialPort(t, pty.path);
  // If it had not been read while dialling, it would now arrive in one piece with this.
  pty.input.write('late');
  await takeFirstByte(pty.path);
  const handler = record(link);
  await handler.received(9);
  t.deepEqual(handler.pieces.map(String), ['early ', 'ate']);
});

/** Waits for data on a terminal and reads one byte of it. */
async function takeFirstByte(device: string): Promise<void> {
  const fd = openSync(device, DEVICE_FLAGS);
  try {
    await eventually(() => readSync(fd, Buffer.alloc(1)) === 1, { intervalMs: 1, what: `a byte of ${device}` });
  } finally {
    closeSync(fd);
  }
}

/** A started link over a FIFO that reads at most `readBytes` at a time before it drains the device. */
function startOnFifo(t: ExecutionContext, options: SocketLinkOptions, readBytes?: number) {
  const fd = openSync(makeFifo(t), DEVICE_FLAGS);
  const handle = openPipeHandle(fd);
  if (handle === null) throw new Error('there is no handle for devices');
  const { pollDevice } = options;
  const poll = (): void => {
    pollDevice?.();
    pollAgain(handle);
  };
  const link = new SocketLink(
    'fifo',
    (onread) => pipeSocket(handle, { ...onread, buffer: () => onread.buffer().subarray(0, readBytes) }),
    { ...options, ...(pollDevice && { pollDevice: poll }), direct: deviceAccess(fd) },
  );
  t.teardown(() => link.destroy());
  const handler = new LinkRecorder({ keeps: true });
  link.start(handler);
  return { link, handler };
}

test('pages of a device are drained in one piece, and kept memory is not overwritten', async (t) => {
  // A read of one page, as from a port, and everything after it through readv.
  const { link, handler } = startOnFifo(t, { slabBytes: 8 * 4096 }, 4096);
  // More data than an opening sends makes a link busy.
  for (let count = 1; count <= 3; count++) {
    link.write(Buffer.alloc(16 * 4096));
    await handler.received(count * 16 * 4096);
  }
  const before = handler.pieces.length;
  const sent = Buffer.from(Array.from({ length: 60_000 }, (_, index) => index % 251));
  t.true(link.write(sent), 'a FIFO takes 64 KiB');
  await handler.received(3 * 16 * 4096 + sent.length);
  const pieces = handler.pieces.slice(before);
  t.deepEqual(Buffer.concat(pieces), sent);
  t.is(pieces[0]?.length, 8 * 4096);
  t.true(pieces.length <= 4, `${pieces.length} pieces`);
});

test('a silent device is polled every 5 s, as its interrupt may be lost', async (t) => {
  const clock = new ManualClock();
  let polls = 0;
  const { link, handler } = startOnFifo(t, { clock, pollDevice: () => void (polls += 1) });
  link.write(Buffer.from('here'));
  await handler.received(4);
  const pollsAfter = (ms: number): number => (clock.advance(ms), polls);
  t.is(pollsAfter(5000), 0, 'something came');
  t.is(pollsAfter(4999), 0);
  t.is(pollsAfter(1), 1);
  t.is(pollsAfter(10_000), 3);
  link.write(Buffer.from('more'));
  await handler.received(8);
  t.is(pollsAfter(5000), 3);
  link.pause();
  t.is(pollsAfter(5000), 4);
  // It is still paused, and continues to read afterwards.
  link.write(Buffer.from('last'));
  await new Promise((resolve) => setImmediate(resolve));
  t.is(Buffer.concat(handler.pieces).length, 8);
  link.resume();
  await handler.received(12);
  link.destroy();
  t.is(clock.pending, 0);
});

test('an opened or handed over device is polled until its link has ended', async (t) => {
  const fifo = makeFifo(t);
  const open = () => openSync(fifo, DEVICE_FLAGS);
  const clock = new ManualClock();
  const opened: Link = openDeviceLink('fifo', open(), null, clock);
  const capture = opened.capture?.(() => 0) ?? null;
  if (capture === null) return t.fail();
  for (const link of [opened, restoreDeviceLink(capture, open, clock)]) {
    t.teardown(() => link.destroy());
    const handler = record(link);
    link.write(Buffer.from('here'));
    await handler.received(4);
    t.is(clock.pending, 1);
    link.close();
    await handler.closed;
    t.is(clock.pending, 0);
  }
  const other = openHandleLink('a socket', open(), { clock });
  const handler = record(other);
  other.write(Buffer.from('here'));
  await handler.received(4);
  t.is(clock.pending, 0, 'nothing else loses events');
  other.destroy();
});

test('a port is found by its name in sysfs if udev created no link', async (t) => {
  const [one, other] = await openPtyPair(t);
  const guest = makeGuest(t);
  addPort(guest, 'vport0p1', null, '/nowhere');
  addPort(guest, 'vport0p2', 'org.example.other', '/nowhere');
  addPort(guest, 'vport3p1', 'org.example.0', one.path);
  const far = await dialPort(t, other.path, guest);
  const farHandler = record(far);
  const byName = await dialPort(t, 'org.example.0', guest);
  t.is(byName.description, 'virtserial-open:org.example.0');
  byName.write(Buffer.from('by name'));
  await farHandler.received(7);
  t.is(farHandler.bytes.toString(), 'by name');
  await t.notThrowsAsync(dialPort(t, `${guest.dev}/virtio-ports/org.example.0:-`, guest));
  // A link created by udev takes precedence over sysfs.
  symlinkSync(one.path, join(guest.dev, 'virtio-ports/org.example.other'));
  await t.notThrowsAsync(dialPort(t, 'org.example.other', guest));
});

test('an unknown port name is channel-missing, and lists the existing names, escaped', async (t) => {
  const guest = makeGuest(t);
  await refusesPort(t, 'org.example.0', guest, 'channel-missing', 'none available');
  addPort(guest, 'vport3p1', 'evil\u001b[2J', '/nowhere');
  await refusesPort(t, 'org.example.0', guest, 'channel-missing', 'available: evil\\x1b[2J');
  await refusesPort(t, `${guest.dev}/vport0p1`, guest, 'channel-missing', 'vport0p1 is missing (ENOENT)');
});

test('anything but a port is channel-unusable and not opened: a file, a console, another device', async (t) => {
  const guest = makeGuest(t);
  const [file, console] = [join(guest.dev, 'regular'), join(guest.dev, 'hvc0')];
  writeFileSync(file, 'precious');
  writeFileSync(console, '');
  symlinkSync(console, join(guest.dev, 'virtio-ports/org.example.console'));
  const folder = join(guest.sys, 'dev/char/1:3');
  mkdirSync(folder, { recursive: true });
  symlinkSync('../../../class/mem', join(folder, 'subsystem'));
  for (const [address, says] of [
    [file, 'not a device'],
    [guest.dev, 'not a device'],
    [makeFifo(t), 'not a device'],
    [console, 'hvc0 is a console'],
    ['org.example.console', 'hvc0 is a console'],
    ['/dev/null', 'a device of "mem"'],
  ] as const) {
    await refusesPort(t, address, guest, 'channel-unusable', says);
  }
  rmSync(join(folder, 'subsystem'));
  symlinkSync('../../../class/virtio-ports', join(folder, 'subsystem'));
  t.is(whyNoPort('/dev/null', guest.sys), null);
});

test('while the host is absent the port is polled at growing intervals and stays open, until cancelled', async (t) => {
  // Reading /dev/null returns EOF at once, like a port without a host.
  const delays: number[] = [];
  const abort = new AbortController();
  const openBefore = countOpen('/dev/null');
  const clock: Clock = {
    now: () => 0,
    schedule(delayMs, callback) {
      delays.push(Math.round(delayMs));
      if (delays.length < 8) setImmediate(callback);
      else setImmediate(() => abort.abort());
      return () => undefined;
    },
  };
  const waits: string[] = [];
  let openMeanwhile = 0;
  const waiting = (what: string): void => {
    waits.push(what);
    openMeanwhile = countOpen('/dev/null');
  };
  const kind = virtserialKind({ ...makeGuest(t), clock });
  const attempt = kind.dial('/dev/null', { signal: abort.signal, report: { waiting } });
  await t.throwsAsync(attempt, { instanceOf: VproxyError, code: 'shutdown' });
  t.deepEqual(delays, [50, 75, 113, 169, 250, 250, 250, 250]);
  t.deepEqual(waits, ['the host']);
  t.is(openMeanwhile, openBefore + 1);
  t.is(countOpen('/dev/null'), openBefore);
});

test('closing a link frees its descriptor', async (t) => {
  const { path } = await openPty(t);
  const before = countOpen(path);
  for (const open of [dialTty, dialPort, openPollingLink]) {
    const link = await open(t, path);
    const handler = record(link);
    t.true(countOpen(path) > before);
    link.close();
    await handler.closed;
    t.is(countOpen(path), before);
  }
});

test('each system error has a code', (t) => {
  for (const [system, code] of [
    ['ENOENT', 'channel-missing'],
    ['ENODEV', 'channel-missing'],
    ['EBUSY', 'channel-busy'],
    ['ECONNREFUSED', 'channel-refused'],
    ['EIO', 'channel-failed'],
    ['EACCES', 'channel-denied'],
    ['EPERM', 'channel-denied'],
    ['ENXIO', 'channel-unusable'],
  ] as const) {
    const error = channelError('virtserial-open:x', Object.assign(new Error(`${system}: text`), { code: system }));
    t.is(error.code, code, system);
    t.regex(
      error.message,
      new RegExp(`^virtserial-open:x(?:: ${system}: text|(?: is |: ).*\\(${system}\\)(?:; [^(]*)?)$`),
    );
  }
});

test('what to do about an error is said once', (t) => {
  const advised = withRemedy(new VproxyError('channel-unusable', 'x'), 'stty');
  t.is(advised.message, 'x; install coreutils or busybox');
  t.is(withRemedy(advised, 'fifos'), advised);
  const other = new VproxyError('channel-ended', 'x');
  t.is(withRemedy(other), other, 'nothing to do');
});

/** The number of descriptors of this process that lead to a file. */
const countOpen = (file: string): number => openFiles().filter((open) => open === file).length;
