import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { HostFiles, parseHosts, parseResolvConf } from '../../../lib/system/dns/host-files.js';
import { temporaryFolder } from '../../helpers/files.js';
import { ManualClock } from '../../helpers/time.js';

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

test('a name of /etc/hosts has the addresses of all its lines, in any case', (t) => {
  const hosts = parseHosts(
    '127.0.0.1\tlocalhost\n::1 localhost # 10.9.9.9 localhost\n#10.0.0.1 off.example\n10.0.0.5 DB.example. db\n10.0.0.5 db\nfe80::1%lo0 zoned\nnot an address\n',
  );
  t.deepEqual(Object.fromEntries(hosts), {
    localhost: ['127.0.0.1', '::1'],
    'db.example': ['10.0.0.5'],
    db: ['10.0.0.5'],
  });
});

test('files are read again when they have changed, and a missing one is empty', (t) => {
  const folder = temporaryFolder(t);
  const clock = new ManualClock();
  const [resolvConf, hosts] = [join(folder, 'resolv.conf'), join(folder, 'hosts')];
  const files = new HostFiles({ clock, resolvConf, hosts });
  t.deepEqual(files.servers, at53('127.0.0.1'));
  t.is(files.addressesOf('db'), null);
  writeFileSync(resolvConf, 'nameserver 10.0.0.1\nsearch lan b.example\n');
  writeFileSync(hosts, '10.0.0.5 db\n');
  t.is(files.addressesOf('db'), null);
  clock.advance(2000);
  t.deepEqual(files.servers, at53('10.0.0.1'));
  t.deepEqual(files.candidatesOf('db'), ['db.lan', 'db.b.example', 'db']);
  t.deepEqual(files.candidatesOf('db.a'), ['db.a', 'db.a.lan', 'db.a.b.example']);
  t.deepEqual(files.candidatesOf('db.'), ['db.']);
  t.deepEqual(files.addressesOf('db'), ['10.0.0.5']);
  writeFileSync(hosts, '10.0.0.66 db\n');
  clock.advance(2000);
  t.deepEqual(files.addressesOf('db'), ['10.0.0.66']);
  rmSync(hosts);
  clock.advance(2000);
  t.is(files.addressesOf('db'), null);
});
