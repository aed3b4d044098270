/** A guest booted by libvirt, with the port of `vproxy libvirt-xml`; the host's vproxy finds its socket through libvirt. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatDomain, Libvirtd } from '../helpers/libvirt.js';
import { localSocket, readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';
import { Agent } from './rig/agent.js';
import { PORT_NAME } from './rig/guest-options.js';
import { AGENT_PORT } from './rig/init-script.js';
import { buildInitramfs, GUEST_VPROXY } from './rig/initramfs.js';
import { findTools } from './rig/tools.js';

const BOOT_MS = 180_000;
const SESSION_MS = 120_000;

async function printXml(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runVproxy(['libvirt-xml', ...args]);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

serialTestWith('root', 'libvirt')('a vproxy reconnects if the domain restarts with its socket elsewhere', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-vm-'));
  const file = (name: string) => join(folder, name);
  const libvirtd = await Libvirtd.start();
  // The agent has its own port.
  const agent = await Agent.listen(file('agent.sock'));
  t.teardown(async () => {
    await libvirtd.stop();
    agent.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const tools = findTools();
  buildInitramfs(file('initramfs'), tools);
  const devices = [
    await printXml(),
    await printXml('--name', AGENT_PORT, '--mode', 'connect', '--path', file('agent.sock')),
    `<serial type='file'><source path='${file('console.log')}'/></serial>\n`,
  ].join('');
  const commandLine = 'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check';
  const boot = { kernel: tools.kernel.image, initrd: file('initramfs'), commandLine };
  await libvirtd.define(formatDomain({ devices, boot }));

  const args = ['-c', 'libvirt:vm1', '-o', `echo:${file('echo.sock')}`];
  const host = spawnVproxy(t, args, { launcher: libvirtd.launcher });
  const places = new Set<string>();
  for (const round of ['first', 'second']) {
    const from = host.lines.length;
    const up = agent.waitForHello(BOOT_MS);
    up.catch(() => t.log(readFileSync(file('console.log'), 'utf8')));
    await libvirtd.virsh('start', 'vm1');
    await up;
    await agent.spawn(['node', GUEST_VPROXY, '-c', `virtserial-open:${PORT_NAME}`, '-i', 'echo:exec:cat']);
    await host.waitForLine(ESTABLISHED, { from, timeoutMs: SESSION_MS });
    const socket = localSocket(t, { path: file('echo.sock') });
    socket.end(round);
    t.is(String(await readToEnd(socket)), round);
    const source = `//channel[target/@name='${PORT_NAME}']/source`;
    const xml = await libvirtd.virsh('dumpxml', 'vm1', '--xpath', source);
    places.add(/ path="([^"]+)"/.exec(xml)?.[1] ?? '');
    await libvirtd.virsh('destroy', 'vm1');
  }
  t.is(places.size, 2, [...places].join(', '));
});
