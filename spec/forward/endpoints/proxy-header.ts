/** The header that identifies a stream's origin to the target. */
import type net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { encodeProxyHeader, machineAddress } from '../../../lib/forward/endpoints/proxy-header.js';
import { temporaryFolder } from '../../helpers/files.js';
import { localServer, proxyPair, readToEnd } from '../../helpers/proxies.js';

test('the header is, byte for byte, as in the specification of the PROXY protocol', (t) => {
  const header = encodeProxyHeader({ label: 'vm1', streamId: 65_539 });
  const expected = [
    '0d0a0d0a000d0a515549540a',
    // Version 2, PROXY; TCP over IPv6; 36 bytes of addresses, 6 and 12 of TLVs.
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

test('each machine has its own, stable address in a unique local network', (t) => {
  const labels = Array.from({ length: 1000 }, (_, number) => `vm${number}`);
  t.is(new Set(labels.map((label) => machineAddress(label).toString('hex'))).size, 1000);
  t.true(machineAddress('vm1').equals(machineAddress('vm1')));
  t.is(machineAddress('vm1').toString('hex').slice(0, 16), 'fd7670726f787900');
});

test('with peerAddress a target gets the header first, and then the bytes of the stream', async (t) => {
  const path = join(temporaryFolder(t), 'target.sock');
  const received: Promise<Buffer>[] = [];
  const welcome = (socket: net.Socket): void => {
    received.push(readToEnd(socket));
    socket.end('welcome');
  };
  const { port } = await localServer(t, welcome);
  await localServer(t, welcome, { path });
  const b = { label: 'vm7', peerAddress: true };
  const { connect } = await proxyPair(t, { targets: [`tcp:${port}`, `unix:${path}`], b });
  const header = encodeProxyHeader({ label: 'vm7', streamId: 0 });
  for (const service of ['tcp', 'unix']) {
    const socket = connect(service);
    socket.end('GET');
    t.is((await readToEnd(socket)).toString(), 'welcome');
    const bytes = (await received.at(-1)) ?? t.fail();
    t.is(bytes.toString('hex', 16, 32), header.toString('hex', 16, 32));
    t.is(bytes.readUInt16BE(14) + 16, bytes.length - 3);
    t.is(bytes.subarray(-3).toString(), 'GET');
  }
});
