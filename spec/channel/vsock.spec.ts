import { openSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import test, { type ExecutionContext } from 'ava';
import {
  encodeVsockAddress,
  loadSocketSystem,
  type VsockSystem,
  vsockConnectKind,
  vsockListen,
  vsockListenKind,
} from '../../lib/channel/vsock.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { bothWays, testEnds, testLinks } from '../helpers/channel-conformance.js';
import { type LinkPair, patiently } from '../helpers/channel-pair.js';
import { freePort } from '../helpers/ports.js';
import { localServer } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** The same calls for IPv4 on loopback, in place of a vsock device, which this machine may not have. */
const loopback = loadSocketSystem({
  number: 2,
  encode({ port }) {
    const address = Buffer.alloc(16);
    address.set(new Uint8Array(new Uint16Array([2]).buffer));
    address.writeUInt16BE(port, 2);
    address.set([127, 0, 0, 1], 4);
    return address;
  },
});
const connectKind = vsockConnectKind(() => loopback);
const listenKind = vsockListenKind(() => loopback);

async function openPair(t: ExecutionContext): Promise<LinkPair> {
  const accepted = deferred<Link>();
  const port = await freePort();
  const listener = await listenKind.listen(port, {
    onLink: (link) => accepted.resolve(link),
    onFailed: (error) => t.fail(error.message),
  });
  t.teardown(() => listener.close());
  t.is(listener.description, `vsock-listen:${port}`);
  const dialled = await connectKind.dial({ cid: 1, port }, patiently());
  const far = await accepted.promise;
  t.teardown(() => dialled.destroy());
  t.teardown(() => far.destroy());
  return { dialled, accepted: far, listener };
}

const [dialled, accepted] = bothWays(openPair);
testLinks('vsock-connect', dialled);
testLinks('vsock-listen', accepted);
testEnds('vsock-connect', dialled);
testEnds('vsock-listen', accepted);

test('an address looks as struct sockaddr_vm does', (t) => {
  t.is(encodeVsockAddress({ cid: 2, port: 0x01020304 }).toString('hex'), '28000000040302010200000000000000');
  t.is(encodeVsockAddress({ cid: 0xffffffff, port: 1 }).toString('hex'), '2800000001000000ffffffff00000000');
});

test('a port that is taken, or not listened on, has its own code, and no descriptor is left', async (t) => {
  const { port } = await localServer(t, () => undefined);
  const handlers = { onLink: () => undefined, onFailed: () => undefined };
  const descriptors = readdirSync('/proc/self/fd').length;
  await t.throwsAsync(listenKind.listen(port, handlers), {
    code: 'address-in-use',
    message: /vsock-listen:\d+: .*EADDRINUSE/,
  });
  await t.throwsAsync(connectKind.dial({ cid: 1, port: await freePort() }, patiently()), { code: 'channel-refused' });
  await eventually(() => readdirSync('/proc/self/fd').length <= descriptors);
});

/** A system whose connections are made when the test says so; its descriptors are real, so that they can be closed. */
function fakeSystem(changes: Partial<VsockSystem> = {}): VsockSystem {
  return {
    socket: () => openSync('/dev/null', 'r'),
    connect: () => -constants.errno.EINPROGRESS,
    bind: () => 0,
    pendingError: () => 0,
    isWritable: () => false,
    ...changes,
  };
}

for (const [what, changes, code, message] of [
  [
    'nobody listens',
    { isWritable: () => true, pendingError: () => constants.errno.ECONNRESET },
    'channel-refused',
    /nobody/,
  ],
  ['no such machine', { connect: () => -constants.errno.ENODEV }, 'channel-missing', /no machine of that CID/],
  ['no vsock', { socket: () => -constants.errno.EAFNOSUPPORT }, 'channel-failed', /no AF_VSOCK/],
  ['no permission', { connect: () => -constants.errno.EACCES }, 'channel-denied', /EACCES/],
] as const) {
  test(`vsock-connect where there is ${what}`, async (t) => {
    const kind = vsockConnectKind(() => Promise.resolve(fakeSystem(changes)));
    await t.throwsAsync(kind.dial({ cid: 3, port: 9 }, patiently()), { code, message });
  });
}

test('a connection that is not made keeps the event loop free, and is given up after 5 s or when asked to', async (t) => {
  const clock = new ManualClock();
  let looks = 0;
  const system = fakeSystem({
    isWritable: () => {
      looks += 1;
      return false;
    },
  });
  const kind = vsockConnectKind(() => Promise.resolve(system), clock);
  const late = t.throwsAsync(kind.dial({ cid: 3, port: 9 }, patiently()), {
    code: 'channel-failed',
    message: /ETIMEDOUT/,
  });
  let isOver = false;
  void late.then(() => {
    isOver = true;
  });
  await eventually(
    () => {
      clock.advance(50);
      return isOver;
    },
    { intervalMs: 1 },
  );
  await late;
  t.true(looks > 90 && looks < 130, `${looks} looks`);
  const stop = new AbortController();
  const given = t.throwsAsync(kind.dial({ cid: 3, port: 9 }, { ...patiently(), signal: stop.signal }), {
    code: 'shutdown',
  });
  stop.abort();
  await eventually(() => {
    clock.advance(50);
    return clock.pending === 0;
  });
  await given;
});

test('without koffi both say what to install, and what does without', async (t) => {
  const absent = (description: string, instead: string) =>
    Promise.reject(new VproxyError('channel-unusable', `${description}: koffi; ${instead}`));
  await t.throwsAsync(vsockConnectKind(absent).dial({ cid: 2, port: 9 }, patiently()), {
    code: 'channel-unusable',
    message: 'vsock-connect:2:9: koffi; exec:socat - VSOCK-CONNECT:2:9',
  });
  await t.throwsAsync(vsockListenKind(absent).listen(9, { onLink: () => undefined, onFailed: () => undefined }), {
    message: 'vsock-listen:9: koffi; exec:socat - VSOCK-LISTEN:9',
  });
  t.true(vsockListen.isPrivate(9));
});
