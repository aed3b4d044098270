/** vproxy over a unix socket inside TLS with a common key, without checksums and with them. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contender } from './contender.js';
import { startOnUnixSocket, vproxy } from './vproxy.js';

/** Compared with `vproxy`, what TLS alone costs. */
export const vproxyTls = insideTls('vproxy-tls', '+tls', ',integrity=off');

/** Compared with `vproxy-integrity`, what `,tls=psk` adds to a channel with default options. */
export const vproxyTlsIntegrity = insideTls('vproxy-tls-integrity', '+tls +integr.', ',integrity=on');

function insideTls(id: string, title: string, options: string): Contender {
  return {
    ...vproxy,
    id,
    title,
    isOnRequest: true,
    start(setting) {
      const keyFile = join(setting.folder, 'vproxy.key');
      writeFileSync(keyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
      return startOnUnixSocket(setting, `${options},tls=psk`, ['--key', keyFile]);
    },
  };
}
