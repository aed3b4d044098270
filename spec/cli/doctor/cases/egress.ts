/** Egresses, and the proxy settings of programs. */
import type { ExecutionContext } from 'ava';
import { checkEgress, checkProxySettings } from '../../../../cli/doctor/subjects/egress.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine, pretend } from '../../../helpers/machines.js';
import { freePort } from '../../../helpers/ports.js';
import { steeredPair } from '../../../helpers/proxies.js';
import { doctor, finds } from './case.js';

const proxies = (t: ExecutionContext, machine: FakeMachine) => checkProxySettings(fakeMachine(t, machine));

export const EGRESS_CASES = [
  finds('egress-open', 'there are entries', /^egress "internet" has 2 allow and 1 deny entries$/, () =>
    checkEgress('internet', { allow: ['a.example:80', '*:443'], deny: ['10.0.0.0/8:*'], upstream: null, askS: null }),
  ),
  finds('egress-open', 'the arguments of a run define it', /"internet" has 1 allow and 0 deny entries$/, (t) => {
    const channel = `unix-listen:${temporaryFolder(t)}/s`;
    return doctor(t, ['-c', channel, '-i', 'web:egress:internet', '--egress', 'internet:allow=*:443']);
  }),
  finds('egress-closed', 'a running vproxy has such a target', /^egress "internet" allows nothing: /, async (t) => {
    const { control } = await steeredPair(t, { here: { incoming: ['internet:egress:'], egress: { internet: {} } } });
    return doctor(t, ['--socket', control.path]);
  }),
  finds('egress-closed', 'nothing is allowed', /^egress "internet" allows nothing: everything is refused$/, () =>
    checkEgress('internet', { allow: [], deny: [], upstream: null, askS: null }),
  ),
  finds('egress-closed', 'it is no longer defined', /^egress "internet" is not defined: /, () =>
    checkEgress('internet', null),
  ),
  finds(
    'proxy-unserved',
    'a variable names a port where nothing listens, without its password',
    { says: /^http_proxy points to 127\.0\.0\.1:\d+, where nothing listens$/, remedy: /-o internet:127\.0\.0\.1:3128/ },
    async (t) => proxies(t, { environment: { http_proxy: `http://me:secret@127.0.0.1:${await freePort()}/` } }),
  ),
  finds('proxy-unserved', 'vproxy doctor has such a variable', /^all_proxy points to \[::1\]:\d+, /, async (t) => {
    const channel = `unix-listen:${temporaryFolder(t)}/s`;
    return doctor(t, ['-c', channel], { all_proxy: `socks5h://[::1]:${await freePort()}` });
  }),
  finds(
    'proxy-unserved',
    'apt is configured so, in either spelling, and not in a comment',
    /^\S+\/apt\/apt\.conf points to localhost:\d+, where nothing listens\n\S+\/apt\.conf\.d\/99proxy points to 127\.0\.0\.1:\d+, where nothing listens$/,
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
    /^HTTPS_PROXY points to 127\.0\.0\.1:\d+, where process \d+ \(squid.*\) listens$/,
    async (t) => {
      const { port } = await pretend(t, { program: 'squid', listenTcp: true });
      return proxies(t, { environment: { HTTPS_PROXY: `127.0.0.1:${port}` } });
    },
  ),
  finds(
    'held-by-vproxy',
    'a variable names the forward of a running vproxy',
    /^vproxy host1 \(process \d+\) listens on 127\.0\.0\.1:\d+, to which http_proxy points$/,
    async (t) => {
      const { here, control } = await steeredPair(t, { here: { outgoing: ['internet:127.0.0.1:0'] } });
      const environment = { http_proxy: `http://127.0.0.1:${here.port('internet')}` };
      return proxies(t, { environment, controlSockets: [control.path] });
    },
  ),
];
