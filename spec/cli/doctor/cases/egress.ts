/** Egresses, and the proxies that programs are told of. */
import type { ExecutionContext } from 'ava';
import { checkEgress, checkProxySettings } from '../../../../cli/doctor/subjects/egress.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine, pretend } from '../../../helpers/machines.js';
import { freePort } from '../../../helpers/ports.js';
import { steeredPair } from '../../../helpers/proxies.js';
import { doctor, type FindingCase } from './case.js';

const proxies = (t: ExecutionContext, machine: FakeMachine) => checkProxySettings(fakeMachine(t, machine));

/** Each finding about them. */
export const EGRESS_CASES: readonly FindingCase[] = [
  {
    id: 'egress-open',
    when: 'there are entries',
    says: /^egress "internet" has entries: 2 to allow, 1 to deny$/,
    find: () => checkEgress('internet', { allow: ['a.example:80', '*:443'], deny: ['10.0.0.0/8:*'], upstream: null }),
  },
  {
    id: 'egress-open',
    when: 'the arguments of a run say so',
    says: /^egress "internet" has entries: 1 to allow, 0 to deny$/,
    find: (t) => {
      const channel = `unix-listen:${temporaryFolder(t)}/s`;
      return doctor(t, ['-c', channel, '-i', 'web:egress:internet', '--egress', 'internet:allow=*:443']);
    },
  },
  {
    id: 'egress-closed',
    when: 'a vproxy that runs has such a target',
    says: /^egress "internet" allows nothing: everything is refused$/,
    async find(t) {
      const { control } = await steeredPair(t, { here: { incoming: ['internet:egress:'], egress: { internet: {} } } });
      return doctor(t, ['--socket', control.path]);
    },
  },
  {
    id: 'egress-closed',
    when: 'nothing is allowed',
    says: /^egress "internet" allows nothing: everything is refused$/,
    find: () => checkEgress('internet', { allow: [], deny: [], upstream: null }),
  },
  {
    id: 'egress-closed',
    when: 'nothing is said of it any more',
    says: /^nothing is said of egress "internet"/,
    find: () => checkEgress('internet', null),
  },
  {
    id: 'proxy-unserved',
    when: 'a variable names a port where nothing listens, without its password',
    says: /^http_proxy leads to 127\.0\.0\.1:\d+, where nothing listens$/,
    remedy: /-o internet:127\.0\.0\.1:3128/,
    find: async (t) => proxies(t, { environment: { http_proxy: `http://me:secret@127.0.0.1:${await freePort()}/` } }),
  },
  {
    id: 'proxy-unserved',
    when: 'the real command runs with such a variable',
    says: /^all_proxy leads to \[::1\]:\d+, where nothing listens$/,
    async find(t) {
      const env = { all_proxy: `socks5h://[::1]:${await freePort()}` };
      return doctor(t, ['-c', `unix-listen:${temporaryFolder(t)}/s`], { env });
    },
  },
  {
    id: 'proxy-unserved',
    when: 'apt is told so, in either spelling, and not in a comment',
    says: /^\S+\/apt\/apt\.conf leads to localhost:\d+, where nothing listens\n\S+\/apt\.conf\.d\/99proxy leads to 127\.0\.0\.1:\d+, where nothing listens$/,
    async find(t) {
      const port = await freePort();
      const files = {
        'etc/apt/apt.conf': `// Acquire::http::Proxy "http://127.0.0.2:${port}";\nAcquire::http::Proxy "http://localhost:${port}/";\n`,
        'etc/apt/apt.conf.d/99proxy': `Acquire {\n  https { Proxy "http://127.0.0.1:${port}"; };\n}\n`,
        'etc/apt/apt.conf.d/99proxy.bak': `Acquire::http::Proxy "http://127.0.0.1:${port}";\n`,
      };
      return proxies(t, { files });
    },
  },
  {
    id: 'proxy-other',
    when: 'another program listens there, and is named',
    says: /^HTTPS_PROXY leads to 127\.0\.0\.1:\d+, where process \d+ \(squid.*\) listens$/,
    async find(t) {
      const { port } = await pretend(t, { program: 'squid', listenTcp: true });
      return proxies(t, { environment: { HTTPS_PROXY: `127.0.0.1:${port}` } });
    },
  },
  {
    id: 'held-by-vproxy',
    when: 'the forward of a running vproxy is what a variable names',
    says: /^vproxy host1 \(process \d+\) listens at 127\.0\.0\.1:\d+, to which http_proxy leads$/,
    async find(t) {
      const { here, control } = await steeredPair(t, { here: { outgoing: ['internet:127.0.0.1:0'] } });
      const environment = { http_proxy: `http://127.0.0.1:${here.port('internet')}` };
      return proxies(t, { environment, controlSockets: [control.path] });
    },
  },
];
