/** Egresses on the real command line: what they allow, what an operator sees of them, and what changes them while they run. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { httpServer } from '../helpers/egress.js';
import { fixtureRows, temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { answerTo, echo, failureOf, localServer, localSocket, readToEnd, steeredPair } from '../helpers/proxies.js';
import { openTerminal, type Terminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { upgrade } from '../helpers/upgrades.js';
import { spawnControlled, spawnVproxy, VPROXY } from '../helpers/vproxy-process.js';

const EGRESS = {
  internet: { allow: ['deb.debian.org:80,443', '{channel}.internal:443', '192.0.2.0/24:80'], deny: ['192.0.2.9:*'] },
  api: { allow: ['*:443'], upstream: 'http://127.0.0.1:3128' },
  none: {},
};

const UNCHANGED = { isBlocked: false, added: [], denied: [] };

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
  const internet = {
    allow: ['deb.debian.org:80,443', 'vm1.internal:443', '192.0.2.0/24:80'],
    ...{ deny: ['192.0.2.9:*'], upstream: null, askS: null },
  };
  const rules = { allow: [], deny: [], upstream: null, askS: null };
  t.deepEqual(JSON.parse((await run('egress', 'list', '--channel', 'vm1', '--json')).stdout), [
    { channel: 'vm1', name: 'internet', services: ['web', 'internet'], rules: internet, ...UNCHANGED },
    {
      ...{ channel: 'vm1', name: 'api', services: [], ...UNCHANGED },
      rules: { ...rules, allow: ['*:443'], upstream: '127.0.0.1:3128' },
    },
    { channel: 'vm1', name: 'none', services: [], rules, ...UNCHANGED },
  ]);
  t.like(await run('egress', 'list', '--channel', 'vm9'), { code: 69, stdout: '' });
});

test.serial('whether a destination may be reached, and which entry decides: of a process and of a file', async (t) => {
  const { run } = await steeredPair(t, { here: { label: 'vm1', egress: EGRESS } });
  const file = join(temporaryFolder(t), 'host.json');
  writeFileSync(file, JSON.stringify({ egress: EGRESS, channels: { vm1: { address: 'unix-listen:/run/vm1.sock' } } }));
  for (const [words, code, ...lines] of fixtureRows('egress-tests.txt')) {
    const isAnswer = code === '0' || code === '77';
    const said = `${lines.join('\n')}\n`;
    const wanted = { code: Number(code), stdout: isAnswer ? said : '', stderr: isAnswer ? '' : said };
    for (const where of [[], ['--config', file]])
      t.deepEqual(await run('egress', 'test', ...words.split(' '), ...where), wanted, words);
  }
  const { code, stdout } = await run('egress', 'test', 'none', '192.0.2.1:80', '--json');
  t.is(code, 77);
  const why = '192.0.2.1 is for documentation (192.0.2.0/24), and no entry allows it explicitly';
  t.deepEqual(JSON.parse(stdout), {
    ...{ channel: 'vm1', name: 'none', destination: '192.0.2.1:80', isAllowed: false, isAsked: false, rule: null, why },
    addresses: [],
  });
  writeFileSync(
    file,
    JSON.stringify({ egress: { ask: { ask: '30s' } }, channels: { vm1: { address: 'unix-listen:/run/vm1.sock' } } }),
  );
  t.deepEqual(await run('egress', 'test', 'ask', 'a.example:80', '--config', file), {
    code: 77,
    stdout:
      'a.example:80 is not allowed by egress "ask" of channel vm1: no entry allows it; a connection waits for an answer\n',
    stderr: '',
  });
});

test.serial('a reload applies other rules at once, and an added channel has them, with its own', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'host.toml');
  const write = (rules: string) =>
    writeFileSync(file, `[egress.internet]\n${rules}\n[channels.vm1]\naddress = "unix-listen:${folder}/1"\n`);
  write('allow = ["192.0.2.0/24:80"]');
  const { vproxy: host, socket } = await spawnControlled(t, ['--config', file]);
  const run = (...args: readonly string[]) => callVproxy([...args, '--socket', socket]);
  write('allow = ["deb.debian.org:80,443"]\ndeny = ["10.0.0.0/8:*"]');
  t.deepEqual(await run('reload'), { code: 0, stdout: 'egress changed: vm1/internet\n', stderr: '' });
  await host.waitForLine(/reloaded: egresses changed: vm1\/internet$/);
  t.like(await run('egress', 'test', 'internet', '192.0.2.1:80'), { code: 77 });
  const own = ['--egress', 'internet:allow={channel}.internal:443', '-i', 'internet:egress:'];
  t.like(await run('channel', 'add', `vm2=unix-listen:${folder}/2`, ...own), { code: 0 });
  const { stdout } = await run('egress', 'list', '--channel', 'vm2', '--json');
  const rules = { allow: ['vm2.internal:443'], deny: ['10.0.0.0/8:*'], upstream: null, askS: null };
  t.deepEqual(JSON.parse(stdout), [{ channel: 'vm2', name: 'internet', services: ['internet'], rules, ...UNCHANGED }]);
});

test.serial('rules are added, blocked and reset while the process runs', async (t) => {
  const { here, run, client } = await steeredPair(t, { here: { label: 'vm1', egress: EGRESS } });
  const added = await run('egress', 'allow', 'vm1/internet', 'A.example:80', '[::1]:*', '--for', '1h30m');
  const [, until = ''] = /until (\S+)\n$/.exec(added.stdout) ?? [];
  const stdout = `vm1/internet: a.example:80 allowed until ${until}\nvm1/internet: [::1]:* allowed until ${until}\n`;
  t.deepEqual(added, { code: 0, stdout, stderr: '' });
  t.true(Math.abs(Date.parse(until) - Date.now() - 5_400_000) < 60_000);
  const lasting = await run('egress', 'allow', 'internet', 'b.example:1-9', '--json');
  t.deepEqual(JSON.parse(lasting.stdout), (await client.egress())[0]);
  const end = (text: string) => text.replaceAll(until, 'THEN');
  const rules = async () =>
    end((await run('egress', 'rules', 'vm1')).stdout)
      .trimEnd()
      .split('\n')
      .map((row) => row.replaceAll(/ +/g, ' '));
  const configured = ['vm1 internet allow deb.debian.org:80,443 -', 'vm1 internet allow vm1.internal:443 -'];
  configured.push('vm1 internet allow 192.0.2.0/24:80 -');
  t.deepEqual(await rules(), [
    'CHANNEL EGRESS LIST ENTRY UNTIL',
    ...configured,
    'vm1 internet allow a.example:80 THEN',
    'vm1 internet allow [::1]:* THEN',
    'vm1 internet allow b.example:1-9 reset',
    'vm1 internet deny 192.0.2.9:* -',
    'vm1 api allow *:443 -',
  ]);
  t.like(await run('egress', 'test', 'internet', '[::1]:7'), { code: 0 });
  t.is((await run('egress', 'rules', '-o', 'name')).stdout.split('\n')[3], 'a.example:80');
  // An added entry may have the text of a configured one, which stays.
  await run('egress', 'allow', 'internet', '192.0.2.0/24:80');
  t.deepEqual(
    (await rules()).filter((row) => row.includes('.0/24')),
    ['vm1 internet allow 192.0.2.0/24:80 -', 'vm1 internet allow 192.0.2.0/24:80 reset'],
  );
  t.deepEqual(await run('egress', 'block', 'internet'), { code: 0, stdout: 'vm1/internet: blocked\n', stderr: '' });
  const [blocked] = JSON.parse((await run('egress', 'rules', '-o', 'json')).stdout) as unknown[];
  t.deepEqual(blocked, { channel: 'vm1', egress: 'internet', list: 'deny', entry: '*:*', until: 'reset' });
  t.deepEqual(await run('egress', 'reset', 'internet'), {
    code: 0,
    stdout: 'vm1/internet: as configured\n',
    stderr: '',
  });
  t.is((await rules())[1], configured[0]);
  t.deepEqual(
    here.events.flatMap(({ event, message }) => (event === 'egress-changed' ? [end(message)] : [])),
    [
      'vm1: egress "internet": allowed a.example:80 [::1]:* until THEN',
      'vm1: egress "internet": allowed b.example:1-9 until reset',
      'vm1: egress "internet": allowed 192.0.2.0/24:80 until reset',
      'vm1: egress "internet": blocked a.example:80 [::1]:* b.example:1-9 192.0.2.0/24:80; 0 connections reset',
      'vm1: egress "internet": reset; 0 connections reset',
    ],
  );
  for (const [words, code, message] of [
    [['rules', 'vm9'], 69, 'no channel "vm9"'],
    [['block', 'vm9/internet'], 69, 'no channel "vm9"'],
    [['allow', 'internet', 'a.example'], 64, 'entry "a.example": missing ports; for all ports use a.example:*'],
    [
      ['allow', 'internet', 'a.example:1', '--for', '721h'],
      64,
      '--for: "721h" is not a number of seconds from 1 to 2592000',
    ],
  ] as const) {
    const refused = await run('egress', ...words);
    t.like(refused, { code, stdout: '' });
    t.true(refused.stderr.startsWith(`vproxy: error: ${message}`), refused.stderr);
  }
});

test.serial('an upgrade keeps added entries and the tunnels that they allow, which a reset then ends', async (t) => {
  const { port } = await localServer(t, echo);
  const { guest, sockets } = await processPair(t, {
    control: 'both',
    host: ['--egress', 'internet:allow=a.example:1', '-i', 'internet:egress:'],
    guest: ['-o', 'internet:0'],
  });
  const run = (...args: readonly string[]) => callVproxy(['egress', ...args, '--socket', sockets[0]]);
  const place = `127.0.0.1:${port}`;
  t.like(await run('allow', 'internet', place, '--for', '1h'), { code: 0 });
  const before = await run('rules');
  t.true(before.stdout.includes(place));
  const socket = localSocket(t, await guest.listeningPort('internet'));
  t.regex(await answerTo(socket, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`), /^HTTP\/1\.1 200 /);
  await upgrade(t, sockets[0]);
  t.deepEqual(await run('rules'), before);
  t.is(await answerTo(socket, 'still there'), 'still there');
  const failed = failureOf(socket);
  t.like(await run('reset', 'internet'), { code: 0 });
  t.is((await failed).code, 'ECONNRESET');
});

test.serial('an upgrade cuts off no answer that its program has not read yet', async (t) => {
  const body = 'x'.repeat(2_000_000);
  const place = `127.0.0.1:${await httpServer(t, (_, response) => response.end(body))}`;
  const { guest, host, sockets } = await processPair(t, {
    control: 'both',
    host: ['--egress', `internet:allow=${place}`, '-i', 'internet:egress:', '-vv'],
    guest: ['-o', 'internet:0'],
  });
  const socket = localSocket(t, await guest.listeningPort('internet')).pause();
  socket.write(`GET http://${place}/ HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
  const client = connectControl(sockets[0]);
  // All of it waits in the guest.
  await eventually(async () => ((await client.streams())[0]?.sentBytes ?? 0) > body.length);
  // It is idle for the host, which needs no time to end it.
  await upgrade(t, sockets[0], ['--wait', '0']);
  const answer = readToEnd(socket);
  socket.resume();
  t.true((await answer).toString().endsWith(body));
  await host.waitForLine(/, closed: \d+ bytes/);
});

test.serial('an upgrade keeps tunnels apart, whatever it ends before them', async (t) => {
  const place = `127.0.0.1:${await httpServer(t, (_, response) => response.writeHead(204).end())}`;
  const { port: echoPort } = await localServer(t, echo);
  const folder = temporaryFolder(t);
  const file = join(folder, 'host.toml');
  // 16 KiB at once; then half a second for each request of less than 512 bytes.
  const rule = '[services.api]\nbytes-per-second = 1024\n';
  const incoming = `incoming = ["api:origin:http://${place},allow=*:/*", "echo:127.0.0.1:${echoPort}"]`;
  writeFileSync(file, `${rule}[channels.vm1]\naddress = "unix-listen:${folder}/1"\ninsecure = true\n${incoming}\n`);
  const { socket: control } = await spawnControlled(t, ['--config', file]);
  const guest = spawnVproxy(t, ['-c', `unix-connect:${folder}/1`, '-o', 'api:0', '-o', 'echo:0']);
  const apiPort = await guest.listeningPort('api');
  const get = (bytes: number) => `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(bytes)}\r\n\r\n`;
  const idle = Array.from({ length: 10 }, () => localSocket(t, apiPort));
  for (const socket of idle) t.regex(await answerTo(socket, get(0)), / 204 /);
  const tunnels = await Promise.all(
    Array.from({ length: 20 }, async () => localSocket(t, await guest.listeningPort('echo'))),
  );
  for (const [id, tunnel] of tunnels.entries()) t.is(await answerTo(tunnel, `${id}`), `${id}`);
  t.regex(await answerTo(localSocket(t, apiPort), get(15_500)), / 204 /);
  // Each waits behind the others, with its end.
  const ends = idle.map((socket) => readToEnd(socket.end(get(400))));
  await upgrade(t, control);
  for (const [id, tunnel] of tunnels.entries()) t.is(await answerTo(tunnel, `${id}`), `${id}`);
  t.true((await Promise.all(ends)).some(({ length }) => length === 0));
});

/** A host whose egress asks, and a connection of the guest that waits. */
async function asking(t: ExecutionContext) {
  const egress = { internet: { askMs: 600_000 } };
  const pair = await steeredPair(t, {
    here: { label: 'vm1', incoming: ['internet:egress:'], egress },
    peer: { outgoing: ['internet:0'] },
  });
  const ask = async (place: string) => {
    const socket = localSocket(t, pair.peer.port('internet'));
    const status = answerTo(socket, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`).then(
      (text) => text.split(' ')[1],
    );
    const find = () => pair.here.proxy.listQuestions().find(({ destination }) => destination === place);
    return { status, id: (await eventually(find)).id };
  };
  return { ...pair, ask };
}

test.serial('what waits for an answer is listed, and answered by its id', async (t) => {
  const { run, ask } = await asking(t);
  t.is((await run('egress', 'asked')).stdout, 'Nothing waits for an answer.\n');
  const { id, status } = await ask('127.0.0.1:9');
  const { stdout } = await run('egress', 'asked', 'vm1');
  t.regex(
    stdout,
    new RegExp(
      `^QUESTION .*\\nvm1/${id} +internet +127\\.0\\.0\\.1:9 +(?:9m 5\\ds|10m 00s) +1 +127\\.0\\.0\\.1 is loopback`,
    ),
  );
  t.is((await run('egress', 'asked', '-o', 'name')).stdout, `vm1/${id}\n`);
  t.like(await run('egress', 'answer', `vm1/${id}`, 'maybe'), { code: 64, stdout: '' });
  const answered = await run('egress', 'answer', `vm1/${id}`, 'deny');
  t.deepEqual(answered, {
    code: 0,
    stdout:
      'vm1/internet: 127.0.0.1:9 denied until vproxy egress reset\nvm1/internet: what no entry names waits 10m for an answer\n',
    stderr: '',
  });
  t.is(await status, '403');
  const late = await run('egress', 'answer', id, 'allow', '--for', '1h');
  t.is(late.code, 69);
  t.regex(
    late.stderr,
    /^vproxy: error: question \w+ is over: denied .* ago; to allow it: vproxy egress allow vm1\/internet 127\.0\.0\.1:9\n$/,
  );
  t.regex((await run('egress', 'rules')).stdout, /\nvm1 +internet +deny +127\.0\.0\.1:9 +reset\n$/);
  const tested = await run('egress', 'test', 'internet', 'a.example:443', '--json');
  t.like(JSON.parse(tested.stdout), { isAllowed: false, isAsked: true });
});

/** A key right after other input has no effect. */
const pressHelp = (terminal: Terminal, pattern: RegExp) =>
  eventually(async () => {
    await terminal.press('?');
    return terminal.shows(pattern, 1000);
  });

serialTestWith('tmux')('in a terminal: what waits is shown, and answered by a key', async (t) => {
  const { env, here, ask } = await asking(t);
  const terminal = await openTerminal(t, `${VPROXY} egress watch --for 2h; echo "status $?"; cat`, env);
  await terminal.shows(/^Nothing waits for an answer\.\n[^]*a allow, d deny, \? help, q quit/);
  const first = await ask('127.0.0.1:9');
  const second = await ask('b.example:443');
  await terminal.shows(/\n> +vm1\/\w+ +internet +127\.0\.0\.1:9 [^]*\n +vm1\/\w+ +internet +b\.example:443 /);
  await terminal.press('?');
  await terminal.shows(/a {2}allow it for a while/);
  // A key counts only once the question has been under the cursor for a moment, and apart from other keys.
  const answer = (key: string, left: number) =>
    eventually(
      async () => {
        await terminal.press(key);
        return here.proxy.listQuestions().length === left;
      },
      { intervalMs: 100 },
    );
  await answer('a', 1);
  t.is(await first.status, '502');
  t.like(here.proxy.listEgress()[0]?.added, [{ entry: '127.0.0.1:9' }]);
  await terminal.shows(/\n> +vm1\/\w+ +internet +b\.example:443 /);
  await answer('D', 0);
  t.is(await second.status, '403');
  t.like(here.proxy.listEgress()[0]?.denied, [{ entry: 'b.example:443', until: null }]);
  await pressHelp(terminal, /b\.example:443: denied until reset/);
  await terminal.press('q');
  await terminal.shows(/^status 0/m);
});

serialTestWith('tmux')('in a terminal: what is pasted answers nothing, however it arrives', async (t) => {
  const { env, here, ask } = await asking(t);
  const terminal = await openTerminal(t, `${VPROXY} egress watch`, env);
  await ask('a.example:443');
  // A key counts once the question has been under the cursor for a moment: a second, at least.
  const [, shown] = await terminal.shows(/ (\d+m \d\ds) /);
  for (let seconds = 0, last = shown; seconds < 2; seconds += 1)
    last = await eventually(async () => {
      const [, left] = await terminal.shows(/ (\d+m \d\ds) /);
      return left !== last && left;
    });
  // A terminal passes on 4095 bytes at a time.
  await terminal.paste(`${'x'.repeat(4095)}a`, false);
  await pressHelp(terminal, /a {2}allow it for a while/);
  await terminal.paste('a', true);
  await pressHelp(terminal, /\na allow, d deny/);
  t.is(here.all('egress-answered').length, 0);
  t.is(here.proxy.listQuestions().length, 1);
});

test.serial('without a terminal: a line for each question, also for those that are open', async (t) => {
  const { env, here, run, ask } = await asking(t);
  const first = await ask('a.example:443');
  const watch = spawnVproxy(t, ['egress', 'watch'], { env });
  await eventually(() => watch.stdout !== '');
  const { id } = await ask('[2001:db8::1]:443');
  await eventually(() => watch.stdout.includes(id));
  t.is(watch.stdout, `vm1/${first.id} internet a.example:443\nvm1/${id} internet [2001:db8::1]:443\n`);
  t.is(here.proxy.listQuestions().length, 2);
  t.like(await run('egress', 'watch', 'vm9'), { code: 69, stdout: '' });
});
