/** Egresses, and the proxies that programs are told of. */
import type { ExecutionContext } from 'ava';
import { checkEgress, checkProxySettings } from '../../../../cli/doctor/subjects/egress.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine, pretend } from '../../../helpers/machines.js';
import { freePort } from '../../../helpers/ports.js';
import { steeredPair } from '../../../helpers/proxies.js';
import { doctor, finds } from './case.js';

const proxies = (t: ExecutionContext, machine: FakeMachine) => checkProxySettings(fakeMachine(t, machine));

export const EGRESS_CASES = [
  finds('egress-open', 'there are entries', /^egress "internet" has entries: 2 to allow, 1 to deny$/, () =>
    checkEgress('internet', { allow: ['a.example:80', '*:443'], deny: ['10.0.0.0/8:*'], upstream: null }),
  ),
  finds('egress-open', 'the arguments of a run say so', /"internet" has entries: 1 to allow, 0 to deny$/, (t) => {
    const channel = `unix-listen:${temporaryFolder(t)}/s`;
    return doctor(t, ['-c', channel, '-i', 'web:egress:internet', '--egress', 'internet:allow=*:443']);
  }),
  finds('egress-closed', 'a vproxy that runs has such a target', /^egress "internet" allows nothing: /, async (t) => {
    const { control } = await steeredPair(t, { here: { incoming: ['internet:egress:'], egress: { internet: {} } } });
    return doctor(t, ['--socket', control.path]);
  }),
  finds('egress-closed', 'nothing is allowed', /^egress "internet" allows nothing: everything is refused$/, () =>
    checkEgress('internet', { allow: [], deny: [], upstream: null }),
  ),
  finds('egress-closed', 'nothing is said of it any more', /^nothing is said of egress "internet"/, () =>
    checkEgress('internet', null),
  ),
  finds(
    'proxy-unserved',
    'a variable names a port where nothing listens, without its password',
    { says: /^http_proxy leads to 127\.0\.0\.1:\d+, where nothing listens$/, remedy: /-o internet:127\.0\.0\.1:3128/ },
    async (t) => proxies(t, { environment: { http_proxy: `http://me:secret@127.0.0.1:${await freePort()}/` } }),
  ),
  finds('proxy-unserved', 'vproxy doctor has such a variable', /^all_proxy leads to \[::1\]:\d+, /, async (t) => {
    const channel = `unix-listen:${temporaryFolder(t)}/s`;
    return doctor(t, ['-c', channel], { all_proxy: `socks5h://[::1]:${await freePort()}` });
  }),
  finds(
    'proxy-unserved',
    'apt is told so, in either spelling, and not in a comment',
    /^\S+\/apt\/apt\.conf leads to localhost:\d+, where nothing listens\n\S+\/apt\.conf\.d\/99proxy leads to 127\.0\.0\.1:\d+, where nothing listens$/,
    async (t) => {
      const port = await freePort();
      const other = `// Acquire::http::Proxy "http://127.0.0.2:${port}";\n`;
      const files = {
        'etc/apt/apt.conf': `${other}Acquire::http::Proxy "http://localhost:${port}/";\n`,
        'etc/apt/apt.conf.d/99proxy': `Acquire {\n  https { Proxy "http://127.0.0.1:${port}"; };\n}\n`,
        'etc/apt/apt.conf.d/99proxy.bak': `Acquire::http::Proxy "http://127.0.0.1:${port}";\n`,
      };
      return proxies(t, { files });
    },
  ),
  finds(
    'proxy-other',
    'another program listens there, and is named',
    /^HTTPS_PROXY leads to 127\.0\.0\.1:\d+, where process \d+ \(squid.*\) listens$/,
    async (t) => {
      const { port } = await pretend(t, { program: 'squid', listenTcp: true });
      return proxies(t, { environment: { HTTPS_PROXY: `127.0.0.1:${port}` } });
    },
  ),
  finds(
    'held-by-vproxy',
    'the forward of a running vproxy is what a variable names',
    /^vproxy host1 \(process \d+\) listens at 127\.0\.0\.1:\d+, to which http_proxy leads$/,
    async (t) => {
      const { here, control } = await steeredPair(t, { here: { outgoing: ['internet:127.0.0.1:0'] } });
      const environment = { http_proxy: `http://127.0.0.1:${here.port('internet')}` };
      return proxies(t, { environment, controlSockets: [control.path] });
    },
  ),
];
