/** A process has a channel once, however its address is spelled. */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { parseChannel, placeOf } from '../../lib/channel/address/address.js';
import { findTwins } from '../../lib/proxy/check-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';

const place = (text: string, folder?: string): string | null => placeOf(parseChannel(text), folder);

for (const [one, other] of [
  ['unix-connect:/run/vm1.sock', 'unix-connect:/run/x/../vm1.sock,resume=60s'],
  ['unix-connect:/run/vm1.sock', 'qemu:socket,id=c,path=/run/vm1.sock,server=on,wait=off'],
  ['unix-listen:/tmp/none.sock', 'unix-listen:/tmp//none.sock'],
  ['tcp-connect:localhost:9000', 'tcp-connect:127.0.0.1:9000'],
  ['tcp-connect:Host1:9000', 'tcp-connect:host1:9000'],
  ['tcp-connect:[::1]:9000', 'tcp-connect:[0:0::1]:9000'],
  ['virtserial-open:org.vproxy.0', 'virtserial-open:/dev/virtio-ports/org.vproxy.0'],
  ['tty-open:/dev/none', 'tty-open:/dev/./none,baud=9600'],
  ['pipe-open:/tmp/fifo', 'pipe-open:/tmp/./fifo'],
  ['vsock-mux-connect:/tmp/v.sock:5', 'vsock-mux-connect:/tmp/./v.sock:5'],
  ['stdio:', 'stdio:'],
] as const) {
  test(`one channel: ${one} and ${other}`, (t) => {
    t.truthy(place(one));
    t.is(place(one), place(other));
  });
}

for (const [one, other] of [
  ['unix-connect:/run/vm1.sock', 'unix-connect:/run/vm2.sock'],
  ['unix-connect:/run/vm1.sock', 'unix-listen:/run/vm1.sock'],
  ['tcp-connect:host1:9000', 'tcp-connect:host1:9001'],
  ['vsock-mux-connect:/tmp/v.sock:5', 'vsock-mux-connect:/tmp/v.sock:6'],
  ['libvirt:vm1', 'libvirt:vm1,uri=qemu:///session'],
  ['fd:3', 'fd:4'],
] as const) {
  test(`two channels: ${one} and ${other}`, (t) => {
    t.not(place(one), place(other));
  });
}

test('each command, and each port that the system picks, is a channel of its own', (t) => {
  t.is(place('exec:ssh host1 vproxy -c stdio:'), null);
  t.is(place('tcp-listen:127.0.0.1:0'), null);
});

test('links are followed, and relative paths are in the folder of their process', (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'real'), '');
  symlinkSync('real', join(folder, 'link'));
  symlinkSync('.', join(folder, 'here'));
  t.is(place(`unix-connect:${folder}/link`), place('unix-connect:real', folder));
  t.is(place(`unix-connect:${folder}/here/missing`), place('unix-connect:./missing', folder));
  t.not(place('unix-connect:missing', folder), place('unix-connect:missing'));
});

test('a proxy refuses the second one, from the start, later, and in a set; and takes it in the place of the first', async (t) => {
  const folder = temporaryFolder(t);
  const channel = (label: string, path: string) => ({ label, address: `unix-connect:${folder}/${path}` });
  const [a, b] = [channel('a', 'vm1'), channel('b', './vm1')];
  const refusal = {
    code: 'bad-argument',
    message: `channel b: unix-connect:${folder}/./vm1 is the channel a already; one process has a channel once`,
  };
  t.throws(() => new Proxy({ agent: 'test', channels: [a, b] }), refusal);
  const proxy = new Proxy({ agent: 'test', channels: [a] });
  t.teardown(() => proxy.stop());
  await proxy.start();
  const labels = () => proxy.listChannels().map(({ label }) => label);
  await t.throwsAsync(proxy.addChannel(b), refusal);
  await t.throwsAsync(proxy.apply([a, b]), refusal);
  t.deepEqual(labels(), ['a']);
  await proxy.apply([b]);
  t.deepEqual(labels(), ['b'], 'a channel can be given another label');
  await proxy.apply([channel('a', 'vm2'), b]);
  await proxy.apply([channel('a', 'vm1'), channel('b', 'vm2')]);
  t.deepEqual(labels(), ['a', 'b'], 'and two of them each other’s address');
  t.deepEqual([...findTwins([a, b, channel('c', 'vm3')]).keys()], ['b']);
});
