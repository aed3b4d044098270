/** A guest that libvirt boots, with the port of `vproxy libvirt-xml`; the host's vproxy asks libvirt where its socket is. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

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

let undo: (() => Promise<void>) | undefined;

test.after.always('all of it is removed', async () => {
  await undo?.();
});

async function printXml(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runVproxy(['libvirt-xml', ...args]);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

/** Defines the domain `vm1`, whose agent is on a port of its own. */
async function defineDomain(): Promise<{ libvirtd: Libvirtd; agent: Agent; folder: string; consolePath: string }> {
  const libvirtd = await Libvirtd.start();
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-vm-'));
  const file = (name: string) => join(folder, name);
  const agent = await Agent.listen(file('agent.sock'));
  undo = async () => {
    await libvirtd.stop();
    agent.close();
    rmSync(folder, { recursive: true, force: true });
  };
  const tools = findTools();
  const initrd = file('initramfs');
  buildInitramfs(initrd, tools);
  const commandLine = 'console=ttyS0 quiet panic=-1 mitigations=off';
  const consolePath = file('console.log');
  const devices = [
    await printXml(),
    await printXml('--name', AGENT_PORT, '--mode', 'connect', '--path', file('agent.sock')),
    `<serial type='file'><source path='${consolePath}'/></serial>\n`,
  ];
  const boot = { kernel: tools.kernel.image, initrd, commandLine };
  await libvirtd.define(formatDomain({ devices: devices.join(''), boot }));
  return { libvirtd, agent, folder, consolePath };
}

serialTestWith('root', 'libvirt')(
  'the same vproxy has the guest again when its domain is destroyed and started, and its socket is elsewhere',
  async (t) => {
    t.timeout(300_000);
    const { libvirtd, agent, folder, consolePath } = await defineDomain();
    const socket = join(folder, 'echo.sock');
    const args = ['-c', 'libvirt:vm1', '-o', `echo:${socket}`];
    const host = spawnVproxy(t, args, { launcher: libvirtd.launcher });
    const places = new Set<string>();
    for (const round of ['first', 'second']) {
      const from = host.lines.length;
      const up = agent.waitForHello(BOOT_MS);
      up.catch(() => t.log(readFileSync(consolePath, 'utf8')));
      await libvirtd.virsh('start', 'vm1');
      await up;
      await agent.spawn(['node', GUEST_VPROXY, '-c', `virtserial-open:${PORT_NAME}`, '-i', 'echo:exec:cat']);
      await host.waitForLine(ESTABLISHED, { from, timeoutMs: SESSION_MS });
      t.is(await echo(t, socket, round), round);
      places.add(await livePath(libvirtd));
      await libvirtd.virsh('destroy', 'vm1');
    }
    t.is(places.size, 2, [...places].join(', '));
  },
);

async function echo(t: ExecutionContext, path: string, text: string): Promise<string> {
  const socket = localSocket(t, { path });
  socket.end(text);
  return (await readToEnd(socket)).toString();
}

async function livePath(libvirtd: Libvirtd): Promise<string> {
  const xml = await libvirtd.virsh('dumpxml', 'vm1', '--xpath', `//channel[target/@name='${PORT_NAME}']/source`);
  return / path="([^"]+)"/.exec(xml)?.[1] ?? '';
}
