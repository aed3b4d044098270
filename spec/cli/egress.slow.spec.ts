/** Egresses on the real command line: what they allow, what an operator sees of them, and what a reload changes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { callVproxy } from '../helpers/call-vproxy.js';
import { fixtureRows, temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';
import { spawnControlled } from '../helpers/vproxy-process.js';

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
  const internet = {
    allow: ['deb.debian.org:80,443', 'vm1.internal:443', '192.0.2.0/24:80'],
    ...{ deny: ['192.0.2.9:*'], upstream: null },
  };
  const rules = { allow: [], deny: [], upstream: null };
  t.deepEqual(JSON.parse((await run('egress', 'list', '--channel', 'vm1', '--json')).stdout), [
    { channel: 'vm1', name: 'internet', services: ['web', 'internet'], rules: internet },
    { channel: 'vm1', name: 'api', services: [], rules: { ...rules, allow: ['*:443'], upstream: '127.0.0.1:3128' } },
    { channel: 'vm1', name: 'none', services: [], rules },
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
    ...{ channel: 'vm1', name: 'none', destination: '192.0.2.1:80', isAllowed: false, rule: null, why },
    addresses: [],
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
  const rules = { allow: ['vm2.internal:443'], deny: ['10.0.0.0/8:*'], upstream: null };
  t.deepEqual(JSON.parse(stdout), [{ channel: 'vm2', name: 'internet', services: ['internet'], rules }]);
});
