/** Egresses at the real command line: what they let out now, what an operator is told of them, and what a reload changes. */
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, steeredPair } from '../helpers/proxies.js';
import { ESTABLISHED, listeningFor, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const EGRESS = {
  internet: { allow: ['deb.debian.org:80,443', '{channel}.internal:443', '192.0.2.0/24:80'], deny: ['192.0.2.9:*'] },
  api: { allow: ['*:443'], upstream: 'http://127.0.0.1:3128' },
  none: {},
};

test.serial('the egresses of each channel, with the services that lead to them', async (t) => {
  const incoming = ['web:egress:internet', 'internet:egress:'];
  const { run } = await steeredPair(t, { here: { label: 'vm1', incoming, egress: EGRESS } });
  const { code, stdout } = await run('egress', 'list');
  t.is(code, 0);
  t.deepEqual(stdout.split('\n'), [
    'CHANNEL  EGRESS    SERVICES      ALLOW                                                   DENY         UPSTREAM',
    'vm1      internet  web internet  deb.debian.org:80,443 vm1.internal:443 192.0.2.0/24:80  192.0.2.9:*  -',
    'vm1      api       -             *:443                                                   -            127.0.0.1:3128',
    'vm1      none      -             -                                                       -            -',
    '',
  ]);
  t.deepEqual(JSON.parse((await run('egress', 'list', '--channel', 'vm1', '--json')).stdout), [
    {
      ...{ channel: 'vm1', name: 'internet', services: ['web', 'internet'] },
      rules: {
        allow: ['deb.debian.org:80,443', 'vm1.internal:443', '192.0.2.0/24:80'],
        deny: ['192.0.2.9:*'],
        upstream: null,
      },
    },
    {
      ...{ channel: 'vm1', name: 'api', services: [] },
      rules: { allow: ['*:443'], deny: [], upstream: '127.0.0.1:3128' },
    },
    { channel: 'vm1', name: 'none', services: [], rules: { allow: [], deny: [], upstream: null } },
  ]);
  t.like(await run('egress', 'list', '--channel', 'vm9'), { code: 69, stdout: '' });
});

/** What is asked, what is printed, and the status. */
const TESTS = [
  [
    ['internet', '192.0.2.1:80'],
    '192.0.2.1:80 is allowed by egress "internet" of channel vm1: allow "192.0.2.0/24:80" (the entry means this address)\n' +
      '  192.0.2.1 is allowed: allow "192.0.2.0/24:80" (the entry means this address)\n',
    0,
  ],
  [
    ['vm1/internet', '192.0.2.9:80'],
    '192.0.2.9:80 is not allowed by egress "internet" of channel vm1: deny "192.0.2.9:*" (the entry denies it)\n',
    77,
  ],
  [
    ['internet', 'DEB.Debian.org.:8080'],
    'deb.debian.org:8080 is not allowed by egress "internet" of channel vm1: allow "deb.debian.org:80,443" does not mean port 8080\n',
    77,
  ],
  [
    ['internet', '[::1]:80', '--channel', 'vm1'],
    '[::1]:80 is not allowed by egress "internet" of channel vm1: ::1 is loopback (::1/128), and no entry allows just that\n',
    77,
  ],
  // Behind a proxy no name is looked up here.
  [
    ['api', 'example.org:443'],
    'example.org:443 is allowed by egress "api" of channel vm1: allow "*:443" (the entry means this name)\n',
    0,
  ],
] as const;

test.serial('whether a destination may be reached, and which entry decides: by a process and by a file', async (t) => {
  const { run } = await steeredPair(t, { here: { label: 'vm1', egress: EGRESS } });
  const file = join(temporaryFolder(t), 'host.json');
  writeFileSync(file, JSON.stringify({ egress: EGRESS, channels: { vm1: { address: 'unix-listen:/run/vm1.sock' } } }));
  for (const [args, stdout, code] of TESTS) {
    t.deepEqual(await run('egress', 'test', ...args), { code, stdout, stderr: '' });
    t.deepEqual(await runVproxy(['egress', 'test', ...args, '--config', file]), { code, stdout, stderr: '' });
  }
  const { code, stdout } = await run('egress', 'test', 'none', '192.0.2.1:80', '--json');
  t.is(code, 77);
  const why = '192.0.2.1 is for documentation (192.0.2.0/24), and no entry allows just that';
  t.deepEqual(JSON.parse(stdout), {
    ...{ channel: 'vm1', name: 'none', destination: '192.0.2.1:80', isAllowed: false, rule: null, why },
    addresses: [],
  });
});

/** What is wrong, and the line that says so. */
const WRONG = [
  [['internet', 'example.org'], 64, /: "example\.org" is not DESTINATION:PORT, such as example\.org:443 /],
  [['internet', '127.1:80'], 64, /: "127\.1" is no plain name or address: /],
  [['web', '192.0.2.1:80'], 69, /: there is no egress web on channel vm1; there are: internet, api, none\n$/],
  [['vm2/internet', '192.0.2.1:80'], 69, /: there is no channel vm2; there are: vm1\n$/],
  [['vm1/internet', '192.0.2.1:80', '--channel', 'vm2'], 64, /vm1: another channel, vm2, is named as well/],
  [['internet'], 64, /DESTINATION:PORT/],
] as const;

test.serial('a question that makes no sense is one line, from a process and from a file', async (t) => {
  const { run } = await steeredPair(t, { here: { label: 'vm1', egress: EGRESS } });
  const file = join(temporaryFolder(t), 'host.json');
  writeFileSync(file, JSON.stringify({ egress: EGRESS, channels: { vm1: { address: 'unix-listen:/run/vm1.sock' } } }));
  for (const [args, code, line] of WRONG) {
    for (const result of [
      await run('egress', 'test', ...args),
      await runVproxy(['egress', 'test', ...args, '--config', file]),
    ]) {
      t.like(result, { code, stdout: '' });
      t.regex(result.stderr, line);
      t.regex(result.stderr, /^vproxy: error: [^\n]*\n$/);
    }
  }
});

test.serial('a forward to an egress of which nothing is said is refused, wherever it is said', async (t) => {
  const folder = temporaryFolder(t);
  const channel = `unix-listen:${folder}/c`;
  const started = await runVproxy(['-c', channel, '-i', 'internet:egress:', '--egress', 'web:allow=*:443']);
  t.deepEqual(started, {
    ...{ code: 64, stdout: '' },
    stderr: 'vproxy: error: -i internet:egress: there is no [egress.internet]; there are: web\n',
  });
  const file = join(folder, 'host.toml');
  writeFileSync(file, `[channels.vms]\naddress = "unix-connect:${folder}/*.sock"\nincoming = ["a:egress:b"]\n`);
  t.deepEqual(await runVproxy(['check', file]), {
    ...{ code: 65, stdout: '' },
    stderr: `${file}: channels.vms: -i a:egress:b: there is no [egress.b]; there are none\n`,
  });
  const { run } = await steeredPair(t);
  t.deepEqual(await run('forward', 'add', '-i', 'internet:egress:'), {
    ...{ code: 64, stdout: '' },
    stderr: 'vproxy: error: -i internet:egress: there is no [egress.internet]; there are none\n',
  });
});

test.serial('an added channel has the egresses of all, and its own', async (t) => {
  const folder = temporaryFolder(t);
  const control = join(folder, 'control');
  const all = ['--egress', 'internet:allow=deb.debian.org:80,443,deny=10.0.0.0/8:*'];
  const host = spawnVproxy(t, ['-c', `vm1=unix-listen:${folder}/1`, '--control', control, ...all]);
  await host.waitForLine(TAKING_CONTROL);
  const run = (...args: readonly string[]) => runVproxy([...args, '--socket', control]);
  const own = ['--egress', 'internet:allow={channel}.internal:443', '-i', 'internet:egress:'];
  t.like(await run('channel', 'add', `vm2=unix-listen:${folder}/2`, ...own), { code: 0 });
  const { stdout } = await run('egress', 'list', '--channel', 'vm2', '--json');
  t.deepEqual(JSON.parse(stdout), [
    {
      ...{ channel: 'vm2', name: 'internet', services: ['internet'] },
      rules: { allow: ['vm2.internal:443'], deny: ['10.0.0.0/8:*'], upstream: null },
    },
  ]);
});

/** The status line of the answer to CONNECT, on a connection that stays. */
async function connect(t: ExecutionContext, port: number, destination: string): Promise<readonly [net.Socket, string]> {
  const socket = localSocket(t, { host: '127.0.0.1', port });
  socket.write(`CONNECT ${destination} HTTP/1.1\r\nHost: ${destination}\r\n\r\n`);
  return [socket, await read(socket)];
}

const read = (socket: net.Socket): Promise<string> =>
  new Promise((resolve, reject) => {
    socket
      .once('data', (data) => resolve(String(data)))
      .once('error', reject)
      .once('end', () => resolve(''));
  });

test.serial(
  'a reload that takes an entry away refuses what is asked for next, and what is connected goes on',
  async (t) => {
    const folder = temporaryFolder(t);
    const control = join(folder, 'control');
    const file = join(folder, 'host.toml');
    const { port } = await localServer(t, echo);
    const destination = `127.0.0.1:${port}`;
    const write = (allow: string) =>
      writeFileSync(
        file,
        `[egress.internet]\nallow = [${allow}]\n[channels.vm1]\naddress = "unix-listen:${folder}/c"\nincoming = ["internet:egress:"]\n`,
      );
    write(`"${destination}"`);
    const host = spawnVproxy(t, ['--config', file, '--control', control]);
    await host.waitForLine(TAKING_CONTROL);
    const guest = spawnVproxy(t, ['-c', `unix-connect:${folder}/c`, '-o', 'internet:127.0.0.1:0']);
    const listening = await guest.waitForLine(listeningFor('internet'));
    await host.waitForLine(ESTABLISHED);
    const proxyPort = Number(/:(\d+)\b/.exec(listening[0])?.[1]);
    const [kept, first] = await connect(t, proxyPort, destination);
    t.regex(first, /^HTTP\/1\.1 200 /);

    write('');
    const run = (...args: readonly string[]) => runVproxy([...args, '--socket', control]);
    t.deepEqual(await run('reload'), { code: 0, stdout: 'egress changed: vm1/internet\n', stderr: '' });
    await host.waitForLine(/reloaded: egresses changed: vm1\/internet$/);
    const [, second] = await connect(t, proxyPort, destination);
    t.regex(second, /^HTTP\/1\.1 403 /);
    t.true(second.endsWith(`\r\n\r\nvproxy: ${destination} is not allowed by egress "internet" on the host\n`));
    kept.write('still there');
    t.is(await read(kept), 'still there');

    write(`"${destination}"`);
    t.like(await run('reload'), { code: 0 });
    const [, third] = await connect(t, proxyPort, destination);
    t.regex(third, /^HTTP\/1\.1 200 /, 'and an entry that is new lets out at once');
  },
);
