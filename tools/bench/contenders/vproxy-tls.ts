/** vproxy over a unix socket inside TLS with a common key. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contender } from './contender.js';
import { startOnUnixSocket, vproxy } from './vproxy.js';

/** Compared with `vproxy`, shows the cost of `,tls=psk`. */
export const vproxyTls: Contender = {
  ...vproxy,
  id: 'vproxy-tls',
  title: 'tls',
  start(setting) {
    const keyFile = join(setting.folder, 'vproxy.key');
    writeFileSync(keyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
    return startOnUnixSocket(setting, ',tls=psk', ['--key', keyFile]);
  },
};
