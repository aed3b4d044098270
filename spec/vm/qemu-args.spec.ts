/** A guest whose ports are what `vproxy qemu-args` prints: one of each kind, and an echo through each. */
import { join } from 'node:path';

import test from 'ava';
import { freePort } from '../helpers/ports.js';
import { localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { GUEST_BUNDLE, GUEST_RIG } from './rig/initramfs.js';
import { useGuest } from './rig/use-guest.js';

/** A port of the guest. */
interface Port {
  readonly name: string;
  /** The arguments of `qemu-args` after the name, and the channel of the host's vproxy. */
  readonly ends: (folder: string, tcpPort: number) => readonly [args: readonly string[], channel: string];
}

const PORTS: readonly Port[] = [
  { name: PORT_NAME, ends: (folder) => [['--path', join(folder, 'a.sock')], `unix-connect:${join(folder, 'a.sock')}`] },
  {
    name: 'org.example.unix-to-host',
    ends: (folder) => [
      ['--path', join(folder, 'b.sock'), '--mode', 'connect'],
      `unix-listen:${join(folder, 'b.sock')}`,
    ],
  },
  { name: 'org.example.tcp', ends: (_, port) => [['--tcp', String(port)], `tcp-connect:127.0.0.1:${port}`] },
  {
    name: 'org.example.tcp-to-host',
    ends: (_, port) => [['--tcp', String(port), '--mode', 'connect'], `tcp-listen:127.0.0.1:${port}`],
  },
  {
    name: 'org.example.pipe',
    ends: (folder) => [['--pipe', join(folder, 'pipe')], `pipe-open:${join(folder, 'pipe')}`],
  },
];

const channels = new Map<string, string>();

const guest = useGuest(test, {
  plan: async (folder) => {
    const portArguments: string[] = [];
    await succeed('pipe-create', join(folder, 'pipe'));
    for (const { name, ends } of PORTS) {
      const [args, channel] = ends(folder, await freePort());
      const printed = await succeed('qemu-args', '--json', '--name', name, ...args);
      portArguments.push(...(JSON.parse(printed) as string[]));
      channels.set(name, channel);
    }
    return { portArguments };
  },
});

async function succeed(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runVproxy(args);
  if (code !== 0) throw new Error(`vproxy ${args.join(' ')}: status ${code}: ${stderr}`);
  return stdout;
}

const SESSION_MS = 60_000;

test.serial.before('the guest has an echo', async () => {
  const services = await guest().agent.spawn(['node', `${GUEST_RIG}/services.js`]);
  await eventually(async () => (await services.log()) === 'ready', { what: 'the services of the guest' });
});

for (const { name } of PORTS) {
  test.serial(`an echo passes through the port ${name}`, async (t) => {
    t.timeout(120_000);
    const { agent } = guest();
    const echo = ['-i', `echo:127.0.0.1:${GUEST_PORTS.echo}`];
    const inGuest = await agent.spawn(['node', GUEST_BUNDLE, '-c', `virtserial-open:${name}`, ...echo]);
    t.teardown(() => inGuest.kill('KILL'));
    const atHost = spawnVproxy(t, ['-c', channels.get(name) ?? '', '-o', 'echo:127.0.0.1:0']);
    await atHost.waitForLine(ESTABLISHED, { timeoutMs: SESSION_MS });
    const socket = localSocket(t, { host: '127.0.0.1', port: await atHost.listeningPort('echo') });
    socket.end(`through ${name}`);
    t.is((await readToEnd(socket)).toString(), `through ${name}`);
  });
}
