/** A Debian guest without a network card installs packages over its virtio-serial port, by HTTP and by HTTPS. */
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { type MadeRepository, makeRepository } from '../helpers/egress-sites.js';
import { EgressOutside, FORBIDDEN, hostConfiguration, ORIGINS, PROXY, PROXY_PORT } from '../helpers/egress-world.js';
import { ESTABLISHED, listeningFor, VproxyProcess } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { prepareDebianGuest } from './rig/debian-guest.js';
import { SHARED_FOLDER } from './rig/guest.js';
import type { GuestJob } from './rig/guest-job.js';
import { PORT_NAME } from './rig/guest-options.js';
import { DEBIAN_SYSTEM } from './rig/systemd-initramfs.js';
import { useGuest } from './rig/use-guest.js';

const TEST_MS = 600_000;
const APT_MS = 120_000;
const PACKAGES = ['made-1', 'made-2', 'made-3', 'made-4', 'made-5'];

let outside: EgressOutside | undefined;
let repository: MadeRepository | undefined;
let host: VproxyProcess | undefined;
let inGuest: GuestJob | undefined;

const world = (): EgressOutside => {
  if (outside === undefined) throw new Error('there is no world outside');
  return outside;
};

const guest = useGuest(test, {
  plan: async () => {
    outside = await EgressOutside.start((origins) => {
      repository = makeRepository(origins, ORIGINS.deb, { names: PACKAGES, bytes: 1_000_000 });
    });
    return { system: DEBIAN_SYSTEM };
  },
  whenFailed: async () =>
    `vproxy on the host:\n${host?.lines.join('\n') ?? ''}\n\nin the guest:\n${(await inGuest?.log()) ?? ''}`,
});

test.serial.before('there is an egress on the host, and a forward to it in the guest', async (t) => {
  t.timeout(TEST_MS);
  const { folder, network } = world();
  const file = join(folder, 'host.toml');
  writeFileSync(file, hostConfiguration(`unix-connect:${guest().channelPath}`));
  host = new VproxyProcess(['--config', file], { launcher: network.launcher });
  await prepareDebianGuest(guest(), [world().authority, repository?.keyFile ?? '']);
  const words = [
    'vproxy',
    '--no-control',
    '-c',
    `virtserial-open:${PORT_NAME}`,
    '-o',
    `internet:127.0.0.1:${PROXY_PORT}`,
  ];
  const job = await guest().agent.spawn(words);
  inGuest = job;
  await host.waitForLine(ESTABLISHED, { timeoutMs: TEST_MS });
  const isListening = async () => listeningFor('internet').test(await job.log());
  await eventuallyInGuest(isListening, { timeoutMs: TEST_MS, what: 'the forward in the guest' });
});

test.serial.after.always('what is outside is stopped', async () => {
  await host?.stop();
  await outside?.stop();
});

const run = (command: string) => guest().agent.output(command, { timeoutMs: APT_MS });

test.serial('the guest has no network', async (t) => {
  t.is(await run('ls /sys/class/net'), 'lo');
});

for (const scheme of ['http', 'https'] as const) {
  test.serial(`apt-get update and install get signed packages over ${scheme}`, async (t) => {
    t.timeout(TEST_MS);
    const { packages = new Map<string, string>(), all = '', keyFile = '' } = repository ?? {};
    const inRig = (path: string) => `${SHARED_FOLDER}/${basename(path)}`;
    const source = `deb [signed-by=${inRig(keyFile)}] ${scheme}://${ORIGINS.deb}/debian stable main`;
    const settings = [
      `Acquire::http::Proxy "${PROXY}";`,
      `Acquire::https::Proxy "${PROXY}";`,
      `Acquire::https::CAInfo "${inRig(world().authority)}";`,
    ];
    await run(`echo '${source}' > /etc/apt/sources.list; echo '${settings.join('\n')}' > /etc/apt/apt.conf.d/30-proxy`);
    // Nothing of another run: neither lists nor packages.
    await run('rm -rf /var/lib/apt/lists/* && apt-get clean');
    await run('(dpkg-query --show --showformat "\\${Package}\\n" "made-*" || true) | xargs -r dpkg --purge');
    const before = world().requests(ORIGINS.deb).length;
    t.notRegex(await run('apt-get update 2>&1'), /^(?:Err|W|E):/m);
    await run(`apt-get install -y ${all}`);
    const sums = await run('cd /usr/share && sha256sum made-*/data');
    const expected = [...packages].map(([name, digest]) => `${digest}  ${name}/data`);
    t.is(sums, expected.join('\n'));
    t.true(
      world()
        .requests(ORIGINS.deb)
        .slice(before)
        .every((line) => line.split(' ')[1] === scheme),
    );
  });
}

test.serial('what is not allowed is refused, and the guest is told', async (t) => {
  const { stdout, status } = await guest().agent.run(
    `/usr/lib/apt/apt-helper download-file http://${FORBIDDEN}/ /tmp/forbidden 2>&1`,
    { timeoutMs: APT_MS },
  );
  t.is(status, 100);
  t.regex(stdout, /403 /);
});
