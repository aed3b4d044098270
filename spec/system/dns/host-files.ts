import { rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { HostFiles, parseResolvConf } from '../../../lib/system/dns/host-files.js';
import { temporaryFolder } from '../../helpers/files.js';
import { ManualClock } from '../../helpers/time.js';
import { bestTurnMs } from '../../helpers/turn-time.js';

const at53 = (...hosts: string[]) => hosts.map((host) => ({ host, port: 53 }));

test('the servers are the first three addresses of resolv.conf, or this machine', (t) => {
  t.deepEqual(
    parseResolvConf('# nameserver 1.1.1.1\nsearch lan\nnameserver 10.0.0.1\nnameserver\tfe80::1%eth0 # router\n')
      .servers,
    at53('10.0.0.1', 'fe80::1%eth0'),
  );
  t.deepEqual(parseResolvConf('nameserver ns.example\nnameserver 10.1\n').servers, at53('127.0.0.1'));
  t.deepEqual(parseResolvConf('nameserver 10.0.0.1\n'.repeat(9)).servers.length, 3);
});

test('the domains are those of the last search or domain of resolv.conf, with its ndots', (t) => {
  const searchOf = (text: string) => parseResolvConf(text).search;
  t.deepEqual(searchOf(''), { domains: [], ndots: 1 });
  t.deepEqual(searchOf('domain lan\nsearch a.example b.example. # c\noptions rotate ndots:5 timeout:1\n'), {
    domains: ['a.example', 'b.example'],
    ndots: 5,
  });
  t.deepEqual(searchOf('search a\ndomain lan\noptions ndots:99\n'), { domains: ['lan'], ndots: 15 });
  t.deepEqual(searchOf('search .\n').domains, []);
  t.is(searchOf(`search ${'a '.repeat(99)}`).domains.length, 6);
});

/** Both files in a folder, with this text in the hosts file. */
function machine(t: ExecutionContext, text = '') {
  const folder = temporaryFolder(t);
  const clock = new ManualClock();
  const [resolvConf, hosts] = [join(folder, 'resolv.conf'), join(folder, 'hosts')];
  if (text !== '') writeFileSync(hosts, text);
  const files = new HostFiles({ clock, resolvConf, hosts });
  const cuts: string[] = [];
  files.onCut = (problem) => cuts.push(problem.replace(folder, ''));
  return { clock, resolvConf, hosts, files, cuts };
}

test('a name of /etc/hosts has the addresses of all its lines, in any case', async (t) => {
  const { files } = machine(
    t,
    '127.0.0.1\tlocalhost\n::1 localhost # 10.9.9.9 localhost\n#10.0.0.1 off.example\n10.0.0.5 DB.example. db\r\n10.0.0.5 db\n10.0.0.5 other\nfe80::1%lo0 zoned\nnot an address\n10.0.0.6 last',
  );
  await files.refresh();
  const names = ['localhost', 'db.example', 'db', 'other', 'last', 'off.example', 'zoned', 'an', '10.0.0.5', ''];
  t.deepEqual(Object.fromEntries(names.map((name) => [name, files.addressesOf(name)?.join(' ') ?? null])), {
    localhost: '127.0.0.1 ::1',
    ...{ 'db.example': '10.0.0.5', db: '10.0.0.5', other: '10.0.0.5', last: '10.0.0.6' },
    ...{ 'off.example': null, zoned: null, an: null, '10.0.0.5': null, '': null },
  });
});

test('files are read again when they have changed, and a missing one is empty', async (t) => {
  const { clock, files, hosts, resolvConf } = machine(t);
  await files.refresh();
  t.deepEqual(files.servers, at53('127.0.0.1'));
  t.is(files.addressesOf('db'), null);
  writeFileSync(resolvConf, 'nameserver 10.0.0.1\nsearch lan b.example\n');
  writeFileSync(hosts, '10.0.0.5 db\n');
  t.is(files.refresh(), null);
  clock.advance(2000);
  await files.refresh();
  t.is(files.refresh(), null);
  t.deepEqual(files.servers, at53('10.0.0.1'));
  t.deepEqual(files.candidatesOf('db'), ['db.lan', 'db.b.example', 'db']);
  t.deepEqual(files.candidatesOf('db.a'), ['db.a', 'db.a.lan', 'db.a.b.example']);
  t.deepEqual(files.candidatesOf('db.'), ['db.']);
  t.deepEqual(files.addressesOf('db'), ['10.0.0.5']);
  writeFileSync(hosts, '10.0.0.66 db\n');
  clock.advance(2000);
  await files.refresh();
  t.deepEqual(files.addressesOf('db'), ['10.0.0.66']);
  rmSync(hosts);
  clock.advance(2000);
  await files.refresh();
  t.is(files.addressesOf('db'), null);
});

/** The limit in docs/security.md. */
const MAX_TURN_MS = 20;

const MAX_BYTES = 2 ** 22;

for (const [what, text] of [
  ['a block list', Array.from({ length: 130_000 }, (_, index) => `0.0.0.0 ads${index}.example.com\n`).join('')],
  [
    'short names',
    Array.from({ length: 500_000 }, (_, index) => `${index % 300 === 0 ? '\n::1' : ''} ${index.toString(36)}`).join(''),
  ],
  [
    'one name with many addresses',
    Array.from({ length: 300_000 }, (_, index) => `::${index.toString(16)} a\n`).join(''),
  ],
  ['empty lines', '\n'.repeat(MAX_BYTES)],
  ['one line', `::1 ${'a '.repeat(MAX_BYTES / 2)}`],
  ['one comment', `#${'a'.repeat(MAX_BYTES)}`],
  ['one name', `::1 ${'a'.repeat(MAX_BYTES)}`],
  ['zeros', '\0'.repeat(MAX_BYTES)],
] as const) {
  test.serial(`4 MiB of ${what} in either file are read in turns of at most 20 ms`, async (t) => {
    const { clock, files, hosts, resolvConf } = machine(t, text);
    writeFileSync(resolvConf, text);
    let touched = 0;
    const longest = await bestTurnMs(MAX_TURN_MS, async () => {
      utimesSync(hosts, touched, (touched += 1));
      utimesSync(resolvConf, touched, touched);
      clock.advance(2000);
      await files.refresh();
      files.addressesOf('a');
    });
    t.log(`${longest} ms`);
    t.true(longest <= MAX_TURN_MS, `${longest} ms`);
    t.true((files.addressesOf('a') ?? []).length <= 64);
  });
}

test('a file that is too long is cut at a line, and reported once', async (t) => {
  const text = Array.from({ length: 200_000 }, (_, index) => `10.0.0.1 n${index}.example.com\n`).join('');
  const { clock, cuts, files, hosts } = machine(t, text);
  await files.refresh();
  const last = text.lastIndexOf('\n', MAX_BYTES);
  const [, name = ''] = text.slice(text.lastIndexOf('\n', last - 1) + 1, last).split(' ');
  t.deepEqual(files.addressesOf(name), ['10.0.0.1']);
  t.is(files.addressesOf('n199999.example.com'), null);
  const expected = '/hosts: too long (max 4194304 bytes, 32768 a line); the rest is ignored';
  t.deepEqual(cuts, [expected]);
  writeFileSync(hosts, `10.0.0.2 db\n10.0.0.3 ${'x '.repeat(20_000)}\n10.0.0.4 after\n`);
  clock.advance(2000);
  await files.refresh();
  t.deepEqual(
    [files.addressesOf('db'), files.addressesOf('x'), files.addressesOf('after')],
    [['10.0.0.2'], null, null],
  );
  t.deepEqual(cuts, [expected]);
});

test('a file of just the greatest length is not cut', async (t) => {
  const { cuts, files } = machine(
    t,
    `${'#'.repeat(1023)}\n`.repeat(MAX_BYTES / 1024 - 1) + '10.0.0.1 db\n'.padStart(1024, '\n'),
  );
  await files.refresh();
  t.deepEqual([files.addressesOf('db'), cuts], [['10.0.0.1'], []]);
});
