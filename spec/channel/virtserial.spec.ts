import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { DialContext } from '../../lib/channel/kind.js';
import { virtserialKind } from '../../lib/channel/virtserial.js';
import { VproxyError } from '../../lib/errors.js';
import { deviceAccess, openDeviceLink, PollingLink, restoreDeviceLink } from '../../lib/link/device-link.js';
import { channelError, type Link } from '../../lib/link/link.js';
import { SocketLink } from '../../lib/link/socket-link.js';
import { openPipeHandle, pipeSocket, pollAgain } from '../../lib/system/handles.js';
import type { Clock } from '../../lib/util/clock.js';
import { testLinks } from '../helpers/channel-conformance.js';
import { LinkRecorder, makeFolder, patiently } from '../helpers/channel-pair.js';
import { openPty, openPtyPair, type Pty } from '../helpers/terminals.js';
import { ManualClock } from '../helpers/time.js';

const DEVICE_FLAGS = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Folders without any port, as `/dev` and `/sys` of a guest. */
async function makeGuest(t: ExecutionContext) {
  const folder = await makeFolder(t);
  const folders = { dev: path.join(folder, 'dev'), sys: path.join(folder, 'sys') };
  await fs.mkdir(path.join(folders.dev, 'virtio-ports'), { recursive: true });
  await fs.mkdir(path.join(folders.sys, 'class/virtio-ports'), { recursive: true });
  return folders;
}
type Guest = Awaited<ReturnType<typeof makeGuest>>;

/** Adds a port: its name in sysfs, and its device, which is the stand-in's. */
async function addPort(guest: Guest, device: string, name: string | null, target: string): Promise<void> {
  const folder = path.join(guest.sys, 'class/virtio-ports', device);
  await fs.mkdir(folder);
  if (name !== null) await fs.writeFile(path.join(folder, 'name'), `${name}\n`);
  await fs.symlink(target, path.join(guest.dev, device));
}

async function dialPort(t: ExecutionContext, address: string, guest: Guest, context = patiently()): Promise<Link> {
  const kind = virtserialKind(guest);
  const link = await kind.dial(kind.parse(address), context);
  t.teardown(() => link.destroy());
  return link;
}

function openPollingLink(t: ExecutionContext, pty: Pty): Link {
  const link = new PollingLink('polling', openSync(pty.path, DEVICE_FLAGS));
  t.teardown(() => link.destroy());
  return link;
}

testLinks('virtserial-open over a terminal', async (t) => {
  const guest = await makeGuest(t);
  const [one, other] = await openPtyPair(t);
  return { near: await dialPort(t, one.path, guest), far: await dialPort(t, other.path, guest) };
});

testLinks('the fallback that polls, over a terminal', async (t) => {
  const [one, other] = await openPtyPair(t);
  return { near: openPollingLink(t, one), far: openPollingLink(t, other) };
});

test('this version of Node has the handle for devices', async (t) => {
  const pty = await openPty(t);
  const handle = openPipeHandle(openSync(pty.path, DEVICE_FLAGS));
  if (handle === null) return t.fail();
  pipeSocket(handle, { buffer: () => Buffer.alloc(1), callback: () => true }).destroy();
  t.pass();
});

for (const name of ['virtserial-open', 'the fallback that polls'] as const) {
  test(`${name}: the link ends once when the host leaves, also with writes waiting`, async (t) => {
    const pty = await openPty(t);
    const link = name === 'virtserial-open' ? await dialPort(t, pty.path, await makeGuest(t)) : openPollingLink(t, pty);
    const handler = new LinkRecorder();
    link.start(handler);
    while (link.write(Buffer.alloc(4096)));
    pty.hangUp();
    const reason = await handler.closed;
    t.true(['channel-closed', 'channel-failed'].includes(reason.code), reason.message);
    t.is(handler.closings.length, 1);
  });
}

test('what the host sent before the port was opened comes first', async (t) => {
  const pty = await openPty(t);
  pty.input.write('!early ');
  await takeFirstByte(pty.path);
  const link = await dialPort(t, pty.path, await makeGuest(t));
  // Had it not been read while dialling, it would now come in one piece with this.
  pty.input.write('late');
  await takeFirstByte(pty.path);
  const handler = new LinkRecorder();
  link.start(handler);
  await handler.received(9);
  t.deepEqual(handler.pieces.map(String), ['early ', 'ate']);
});

/** Takes one byte from a terminal once one has come, and leaves the others. */
async function takeFirstByte(device: string): Promise<void> {
  const fd = openSync(device, DEVICE_FLAGS);
  try {
    const deadline = Date.now() + 10_000;
    while (Date.now() < deadline) {
      if (canRead(fd)) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`${device} stays empty`);
  } finally {
    closeSync(fd);
  }
}

function canRead(fd: number): boolean {
  try {
    return readSync(fd, Buffer.alloc(1)) === 1;
  } catch {
    return false;
  }
}

test('pages of a device are drained in one piece, and what is kept is not written to again', async (t) => {
  const fifo = path.join(await makeFolder(t), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const fd = openSync(fifo, DEVICE_FLAGS);
  const handle = openPipeHandle(fd);
  if (handle === null) return t.fail();
  // A read of one page at a time, as a port gives them, and all that follows through readv.
  const onePage = { slabBytes: 8 * 4096, direct: deviceAccess(fd) };
  const link = new SocketLink(
    'fifo',
    (onread) => pipeSocket(handle, { ...onread, buffer: () => onread.buffer().subarray(0, 4096) }),
    onePage,
  );
  t.teardown(() => link.destroy());
  const handler = new LinkRecorder({ keeps: true });
  link.start(handler);
  // More data than an opening sends makes a link a busy one.
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

test('a device that is silent is polled every 5 s, as its interrupt may be lost', async (t) => {
  const fifo = path.join(await makeFolder(t), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const fd = openSync(fifo, DEVICE_FLAGS);
  const handle = openPipeHandle(fd);
  if (handle === null) return t.fail();
  const clock = new ManualClock();
  let polls = 0;
  const pollDevice = () => {
    polls += 1;
    pollAgain(handle);
  };
  const link = new SocketLink('fifo', (onread) => pipeSocket(handle, onread), {
    ...{ direct: deviceAccess(fd), clock, pollDevice },
  });
  t.teardown(() => link.destroy());
  const handler = new LinkRecorder();
  link.start(handler);
  link.write(Buffer.from('here'));
  await handler.received(4);
  const pollsAfter = (ms: number): number => {
    clock.advance(ms);
    return polls;
  };
  t.is(pollsAfter(5000), 0, 'something came');
  t.is(pollsAfter(4999), 0);
  t.is(pollsAfter(1), 1);
  t.is(pollsAfter(10_000), 3);
  link.write(Buffer.from('more'));
  await handler.received(8);
  t.is(pollsAfter(5000), 3);
  link.pause();
  t.is(pollsAfter(5000), 4);
  // It is still paused, and reads on afterwards.
  link.write(Buffer.from('last'));
  await new Promise((resolve) => setImmediate(resolve));
  t.is(Buffer.concat(handler.pieces).length, 8);
  link.resume();
  await handler.received(12);
  link.destroy();
  t.is(clock.pending, 0);
});

test('a device is polled that was opened, or handed over by another process, until its link has ended', async (t) => {
  const fifo = path.join(await makeFolder(t), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const open = () => openSync(fifo, DEVICE_FLAGS);
  const clock = new ManualClock();
  const opened: Link = openDeviceLink('fifo', open(), null, clock);
  const capture = opened.capture?.(() => 0) ?? null;
  if (capture === null) return t.fail();
  for (const link of [opened, restoreDeviceLink(capture, open, clock)]) {
    t.teardown(() => link.destroy());
    const handler = new LinkRecorder();
    link.start(handler);
    link.write(Buffer.from('here'));
    await handler.received(4);
    t.is(clock.pending, 1);
    link.close();
    await handler.closed;
    t.is(clock.pending, 0);
  }
});

test('a port is found by its name in sysfs where udev made no link', async (t) => {
  const [one, other] = await openPtyPair(t);
  const guest = await makeGuest(t);
  await addPort(guest, 'vport0p1', null, '/nowhere');
  await addPort(guest, 'vport0p2', 'org.example.other', '/nowhere');
  await addPort(guest, 'vport3p1', 'org.example.0', one.path);
  const far = await dialPort(t, other.path, guest);
  const farHandler = new LinkRecorder();
  far.start(farHandler);
  const byName = await dialPort(t, 'org.example.0', guest);
  t.is(byName.description, 'virtserial-open:org.example.0');
  byName.write(Buffer.from('by name'));
  await farHandler.received(7);
  t.is(farHandler.bytes.toString(), 'by name');
  await t.notThrowsAsync(dialPort(t, `${guest.dev}/virtio-ports/org.example.0:-`, guest));
});

test('a link that udev made goes before sysfs', async (t) => {
  const pty = await openPty(t);
  const guest = await makeGuest(t);
  await addPort(guest, 'vport3p1', 'org.example.0', '/nowhere');
  await fs.symlink(pty.path, path.join(guest.dev, 'virtio-ports/org.example.0'));
  await t.notThrowsAsync(dialPort(t, 'org.example.0', guest));
});

async function refuses(t: ExecutionContext, address: string, guest: Guest, code: string, says: string) {
  const error = await t.throwsAsync(dialPort(t, address, guest), { instanceOf: VproxyError, code });
  t.true(error.message.startsWith(`virtserial-open:${address}`), error.message);
  t.true(error.message.includes(says), error.message);
}

test('a name that no port has is channel-missing, and the names that there are are shown escaped', async (t) => {
  const guest = await makeGuest(t);
  await refuses(t, 'org.example.0', guest, 'channel-missing', 'there is none');
  await addPort(guest, 'vport3p1', 'evil\u001b[2J', '/nowhere');
  await refuses(t, 'org.example.0', guest, 'channel-missing', 'there are: evil\\x1b[2J');
});

test('a path that does not exist is channel-missing', async (t) => {
  const guest = await makeGuest(t);
  await refuses(t, `${guest.dev}/vport0p1`, guest, 'channel-missing', 'vport0p1 is missing (ENOENT)');
});

test('what is not a device is channel-unusable, and is not opened', async (t) => {
  const guest = await makeGuest(t);
  const file = path.join(guest.dev, 'regular');
  await fs.writeFile(file, 'precious');
  await refuses(t, file, guest, 'channel-unusable', 'not a device');
  await refuses(t, guest.dev, guest, 'channel-unusable', 'not a device');
  const fifo = path.join(guest.dev, 'fifo');
  execFileSync('mkfifo', [fifo]);
  await refuses(t, fifo, guest, 'channel-unusable', 'not a device');
});

test('a console is refused by its name, also behind a link', async (t) => {
  const guest = await makeGuest(t);
  const console = path.join(guest.dev, 'hvc0');
  await fs.writeFile(console, '');
  await fs.symlink(console, path.join(guest.dev, 'virtio-ports/org.example.console'));
  await refuses(t, console, guest, 'channel-unusable', 'hvc0 is a console');
  await refuses(t, 'org.example.console', guest, 'channel-unusable', 'hvc0 is a console');
});

test('a device that the system knows as something else is channel-unusable', async (t) => {
  const guest = await makeGuest(t);
  const folder = path.join(guest.sys, 'dev/char/1:3');
  await fs.mkdir(folder, { recursive: true });
  await fs.symlink('../../../class/mem', path.join(folder, 'subsystem'));
  await refuses(t, '/dev/null', guest, 'channel-unusable', 'a device of "mem"');
});

test('while the host is absent the port is asked at growing intervals and stays open, until that is given up', async (t) => {
  // Reading /dev/null gives what reading a port without a host gives: nothing, at once.
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
  const context: DialContext = {
    signal: abort.signal,
    report: {
      waiting(what) {
        waits.push(what);
        openMeanwhile = countOpen('/dev/null');
      },
    },
  };
  const guest = await makeGuest(t);
  const attempt = virtserialKind({ ...guest, clock }).dial('/dev/null', context);
  await t.throwsAsync(attempt, { instanceOf: VproxyError, code: 'shutdown' });
  t.deepEqual(delays, [50, 75, 113, 169, 250, 250, 250, 250]);
  t.deepEqual(waits, ['the host']);
  t.is(openMeanwhile, openBefore + 1);
  t.is(countOpen('/dev/null'), openBefore);
});

/** The number of descriptors of this process that lead to a file. */
function countOpen(file: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === file;
    } catch {
      return false;
    }
  }).length;
}

test('closing a link frees its descriptor', async (t) => {
  const pty = await openPty(t);
  const before = countOpen(pty.path);
  const guest = await makeGuest(t);
  for (const open of [() => dialPort(t, pty.path, guest), () => Promise.resolve(openPollingLink(t, pty))]) {
    const link = await open();
    const handler = new LinkRecorder();
    link.start(handler);
    t.is(countOpen(pty.path), before + 1);
    link.close();
    await handler.closed;
    t.is(countOpen(pty.path), before);
  }
});

const maps = test.macro({
  title: (_, system: string, code: string) => `${system} is ${code}`,
  exec(t, system: string, code: string, retry: boolean) {
    const error = channelError('virtserial-open:x', Object.assign(new Error(`${system}: text`), { code: system }));
    t.is(error.code, code);
    t.is(error.row.retry, retry);
    t.regex(error.message, new RegExp(`^virtserial-open:x(?:: ${system}: text|(?: is |: ).*\\(${system}\\))$`));
  },
});
test(maps, 'ENOENT', 'channel-missing', true);
test(maps, 'ENODEV', 'channel-missing', true);
test(maps, 'EBUSY', 'channel-busy', true);
test(maps, 'ECONNREFUSED', 'channel-refused', true);
test(maps, 'EIO', 'channel-failed', true);
test(maps, 'EACCES', 'channel-denied', false);
test(maps, 'EPERM', 'channel-denied', false);
test(maps, 'ENXIO', 'channel-unusable', false);
