/** Channels in the spelling of libvirt and QEMU, at the real command line. */
import { writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { channelXml, domainXml, fakeVirsh } from '../helpers/libvirt.js';
import { echo, localServer } from '../helpers/proxies.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

test.serial('a domain that is started again has another socket, to which the channel goes', async (t) => {
  const folder = temporaryFolder(t);
  const virsh = fakeVirsh(t);
  const shutOff = domainXml(channelXml('unix', "<source mode='bind'/>")).replace(" id='3'", '');
  virsh.print(shutOff);
  const { env } = virsh;
  const vproxy = spawnVproxy(t, ['-c', 'libvirt:vm1', '--name', 'host', '-o', 'web:127.0.0.1:0'], { env });
  await vproxy.waitForLine(/libvirt:vm1: the domain is not running; trying again/);
  const server = await localServer(t, echo);
  for (const id of ['3', '4']) {
    const from = vproxy.lines.length;
    await mkdir(join(folder, id));
    const socket = join(folder, id, 'org.vproxy.0');
    const guest = spawnVproxy(t, ['-c', `unix-listen:${socket}`, '-i', `web:${server.port}`]);
    await guest.waitForLine(/waiting for the peer/);
    virsh.print(domainXml(channelXml('unix', `<source mode='bind' path='${socket}'/>`)).replace("'3'", `'${id}'`));
    const [line] = await vproxy.waitForLine(ESTABLISHED, { from });
    t.true(
      vproxy.lines.some((text) => text.includes(`on unix-connect:${socket}`)),
      line,
    );
    virsh.print(shutOff);
    await guest.stop();
    await vproxy.waitForLine(/the domain is not running; trying again/, { from });
  }
});

test.serial('check, --print-config and files take them', async (t) => {
  const file = join(temporaryFolder(t), 'vproxy.toml');
  const address = 'qemu:-chardev socket,id=c0,path=/run/vm2.sock,server=on,wait=off,frame=8192';
  writeFileSync(
    file,
    `[channels.vm1]\naddress = "libvirt:vm1,uri=qemu:///system"\nallow-exec = true\n[channels.vm2]\naddress = "${address}"\nallow-copy = true\n`,
  );
  const checked = await runVproxy(['check', file]);
  t.is(checked.code, 0, checked.stderr);
  t.true(checked.stdout.includes('libvirt:vm1,uri=qemu:///system'), checked.stdout);
  t.true(checked.stdout.includes('unix-connect:/run/vm2.sock,frame=8192'), checked.stdout);
  const printed = await runVproxy(['--config', file, '--print-config']);
  t.is(printed.code, 0, printed.stderr);
  t.true(printed.stdout.includes('libvirt:vm1,uri=qemu:///system'), printed.stdout);
  t.true(printed.stdout.includes('unix-connect:/run/vm2.sock,frame=8192'), printed.stdout);
});

test.serial('where QEMU connects from elsewhere, listening has to be protected', async (t) => {
  const { code, stderr } = await runVproxy(['-c', 'qemu:socket,host=192.0.2.1,port=50000,reconnect=10', '-i', 'x:80']);
  t.is(code, 64);
  t.regex(stderr, /listening where other machines can connect needs TLS/);
});

test.serial('a virsh that is missing ends vproxy, as nothing else is left', async (t) => {
  const { code, stderr } = await runVproxy(['-c', 'libvirt:vm1', '-i', 'x:80'], {
    // A folder that does not exist.
    env: { PATH: join(temporaryFolder(t), 'bin') },
  });
  t.is(code, 74, stderr);
  t.regex(stderr, /libvirt:vm1: virsh is missing \(Debian: libvirt-clients\)/);
});
