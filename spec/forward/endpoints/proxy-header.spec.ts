/** The header that tells a target whom it serves. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { encodeProxyHeader, machineAddress } from '../../../lib/forward/endpoints/proxy-header.js';
import { temporaryFolder } from '../../helpers/files.js';
import { connectedProxies, localServer, localSocket, readToEnd } from '../../helpers/proxies.js';

test('the header is, byte for byte, what the specification of the PROXY protocol says', (t) => {
  const header = encodeProxyHeader({ label: 'vm1', streamId: 65_539 });
  const expected = [
    '0d0a0d0a000d0a515549540a',
    // Version 2, PROXY; TCP over IPv6; 36 bytes of addresses, 6 and 12 of facts.
    '21',
    '21',
    '0036',
    machineAddress('vm1').toString('hex'),
    'fd7670726f7879000000000000000000',
    '0003',
    '0000',
    '020003766d31',
    `050009${Buffer.from('vm1/65539').toString('hex')}`,
  ];
  t.is(header.toString('hex'), expected.join(''));
});

test('machines have addresses of their own, in a network that is nobody else’s, and always the same', (t) => {
  const labels = Array.from({ length: 1000 }, (_, number) => `vm${number}`);
  t.is(new Set(labels.map((label) => machineAddress(label).toString('hex'))).size, 1000);
  t.true(machineAddress('vm1').equals(machineAddress('vm1')));
  t.is(machineAddress('vm1').toString('hex').slice(0, 16), 'fd7670726f787900');
});

for (const kind of ['TCP', 'unix'] as const) {
  test(`with peerAddress a ${kind} target gets the header first, and then the bytes of the stream`, async (t) => {
    const folder = temporaryFolder(t);
    const received: Promise<Buffer>[] = [];
    const path = join(folder, 'target.sock');
    const address = kind === 'unix' ? { path } : { host: '127.0.0.1', port: 0 };
    const target = await localServer(
      t,
      (socket) => {
        received.push(readToEnd(socket));
        socket.end('welcome');
      },
      address,
    );
    const incoming = [`web:${kind === 'unix' ? path : target.port}`];
    const { a } = await connectedProxies(
      t,
      join(folder, 'channel.sock'),
      { outgoing: ['web:0'] },
      { incoming, label: 'vm7', peerAddress: true },
    );
    const socket = localSocket(t, { host: '127.0.0.1', port: a.port('web') });
    const answer = readToEnd(socket);
    await once(socket, 'connect');
    socket.end('GET');
    t.is((await answer).toString(), 'welcome');
    const bytes = (await received[0]) ?? t.fail();
    const header = encodeProxyHeader({ label: 'vm7', streamId: 0 });
    t.is(bytes.subarray(16, 32).toString('hex'), header.subarray(16, 32).toString('hex'));
    t.is(bytes.readUInt16BE(14) + 16, bytes.length - 3);
    t.is(bytes.subarray(-3).toString(), 'GET');
  });
}
