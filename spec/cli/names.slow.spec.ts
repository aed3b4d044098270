/** Names, with a real resolv.conf: an egress asks only for the name that it checked, and nothing waits for a neighbour's names. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { OwnNetwork } from '../helpers/namespaces.js';
import { hasNeed } from '../helpers/needs.js';
import { answerTo, localSocket, TestProxy } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { UdpProgram } from '../helpers/udp.js';
import { VproxyProcess } from '../helpers/vproxy-process.js';

/** A public address, so that names may lead there; and an address that only a longer name has. */
const HERE = '203.0.114.7';
const INSIDE = '203.0.114.8';

const ZONE = {
  'good.example': HERE,
  'secret.corp.internal': INSIDE,
  'x.good.example.corp.internal': INSIDE,
  'app.corp.internal': HERE,
};

/** Names of the hosts file with addresses of both families: this network has a route only to IPv6 addresses for documentation. */
const HOSTS = {
  'both.example': [HERE, '2001:db9::7'],
  'old.example': [HERE, '2a00::7'],
  'six.example': ['2a00::7', '2001:db9::7', 'fc00::7'],
  'inner.example': ['fd00::7', '10.0.0.7', '2001:db9::8'],
};

/** The first server does not answer. */
const RESOLV_CONF = 'nameserver 127.0.0.2\nnameserver 127.0.0.1\nsearch corp.internal\noptions ndots:4\n';

const configuration = (folder: string): string => `
[egress.internet]
allow = ["*:7"]
deny = ["*.corp.internal:*"]

[channels.vm1]
address = "unix-listen:${folder}/vm1.sock"
incoming = ["internet:egress:", "app:tcp:app.dead.test:7", "datagrams:udp:app.dead.test:7"]

[channels.vm2]
address = "unix-listen:${folder}/vm2.sock"
incoming = ["internet:egress:", "app:tcp:app:7", "datagrams:udp:app:7"]

[channels.vm3]
address = "tcp-connect:vm3.dead.test:9000"
insecure = true
`;

interface World {
  readonly folder: string;
  readonly network: OwnNetwork;
  readonly server: VproxyProcess;
}

let world: World | undefined;

const worldOf = (): World => {
  if (world === undefined) throw new Error('there is no world');
  return world;
};

test.serial.before('start a network with a name server', async (t) => {
  if (!hasNeed('ip')) return;
  t.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-names-'));
  const resolvConf = join(folder, 'resolv.conf');
  const hostsFile = join(folder, 'hosts');
  writeFileSync(resolvConf, RESOLV_CONF);
  const lines = Object.entries(HOSTS).flatMap(([name, addresses]) => addresses.map((one) => `${one} ${name}\n`));
  writeFileSync(hostsFile, lines.join(''));
  writeFileSync(join(folder, 'host.toml'), configuration(folder));
  const network = await OwnNetwork.start({ routes: ['203.0.114.0/24', '2001:db9::/64'], hostsFile, resolvConf });
  const program = [process.execPath, join(PROJECT_ROOT, 'dist/spec/cli/name-server.js')];
  const names = Object.entries(ZONE).map((entry) => entry.join('='));
  const server = new VproxyProcess(names, { program, launcher: network.launcher });
  world = { folder, network, server };
  await server.waitForLine(/^ready$/);
});

test.serial.after.always('stop the network', async () => {
  if (world === undefined) return;
  await world.server.stop();
  await world.network.stop();
  rmSync(world.folder, { recursive: true });
});

const withNetwork = serialTestWith('ip');

/** The decision of an egress about a name; nothing is connected to. */
async function decide(name: string) {
  const { folder, network } = worldOf();
  const program = join(PROJECT_ROOT, 'dist/program/vproxy.cjs');
  const words = ['egress', 'test', 'internet', `${name}:7`, '--channel', 'vm1', '--config', join(folder, 'host.toml')];
  const { stdout } = await network.run([process.execPath, program, ...words, '--json']);
  return JSON.parse(stdout) as { isAllowed: boolean; why: string; addresses: { address: string }[] };
}

withNetwork('an egress asks for the name that it has checked, not for one derived by resolv.conf', async (t) => {
  const { server } = worldOf();
  const asked = async (name: string): Promise<readonly [verdict: string, asked: readonly string[]]> => {
    const from = server.lines.length;
    const { isAllowed, why } = await decide(name);
    return [isAllowed ? 'allowed' : why, [...new Set(server.lines.slice(from))].sort()];
  };
  const both = (name: string) => [`asked ${name} A`, `asked ${name} AAAA`];
  for (const name of ['secret', 'x.good.example']) {
    const why = `no address found for ${name}: name not found (ENOTFOUND)`;
    t.deepEqual(await asked(name), [why, both(`${name}.`)]);
  }
  t.deepEqual(await asked('good.example'), ['allowed', both('good.example.')]);
  t.deepEqual(await asked('both.example'), ['allowed', []]);
  t.regex((await asked('localhost'))[0], /is loopback/);
});

withNetwork('addresses are tried in the order of the system', async (t) => {
  const { network } = worldOf();
  for (const name of Object.keys(HOSTS)) {
    const { stdout } = await network.run(['getent', 'ahosts', name]);
    const system = stdout.split('\n').flatMap((line) => /^\S+/.exec(line) ?? []);
    t.deepEqual(
      (await decide(name)).addresses.map(({ address }) => address),
      [...new Set(system)],
      name,
    );
  }
});

/** Sockets of a network with pending questions to its name server. */
const questionsOf = (pid: number): number =>
  readFileSync(`/proc/${pid}/net/udp`, 'latin1').split(' 0100007F:0035 01 ').length - 1;

/** Asks for a tunnel; resolves with the status. */
function tunnel(
  t: ExecutionContext,
  port: number,
  name: string,
): { readonly status: () => string | null; readonly close: () => void } {
  const socket: net.Socket = localSocket(t, { port });
  let text = '';
  socket.on('error', () => undefined);
  socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')));
  socket.write(`CONNECT ${name}:7 HTTP/1.1\r\nHost: ${name}:7\r\n\r\n`);
  return { status: () => /^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? null, close: () => socket.resetAndDestroy() };
}

withNetwork('names without an answer block nothing else: an egress, a target, datagrams', async (t) => {
  t.timeout(60_000);
  const { folder, network, server } = worldOf();
  const host = new VproxyProcess(['--config', join(folder, 'host.toml'), '--control', join(folder, 'host.sock')], {
    launcher: network.launcher,
  });
  t.teardown(() => host.stop());
  const guest = async (label: string): Promise<TestProxy> => {
    const outgoing = ['internet:0', 'app:0', 'datagrams:udp:0'];
    const one = new TestProxy(t, `unix-connect:${folder}/${label}.sock`, { outgoing });
    await one.start();
    await one.event('session-established');
    return one;
  };
  const bad = await guest('vm1');
  const good = await guest('vm2');

  const stuck = Array.from({ length: 40 }, (_, index) => tunnel(t, bad.port('internet'), `n${index}.dead.test`));
  for (let index = 0; index < 10; index += 1) localSocket(t, { port: bad.port('app') });
  const lost = await UdpProgram.open(t);
  lost.send('lost', bad.port('datagrams'));
  await eventually(() => server.lines.includes('asked n7.dead.test. A'));
  await eventually(() => server.lines.includes('asked app.dead.test. A'));

  const fine = tunnel(t, good.port('internet'), 'good.example');
  const app = localSocket(t, { port: good.port('app') });
  const datagrams = await UdpProgram.open(t);
  datagrams.send('hello', good.port('datagrams'));
  t.is(await eventually(fine.status), '200');
  t.is(await answerTo(app, 'hello'), 'hello');
  await datagrams.came(1);
  t.true(stuck.every(({ status }) => status() === null));

  // 32 of a channel at once, and one for each host that the configuration names.
  t.true(questionsOf(host.pid) <= 32 + 2);
  for (const { close } of stuck) close();
  await eventually(() => questionsOf(host.pid) <= 2);
});
