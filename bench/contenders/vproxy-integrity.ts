/** vproxy over a unix socket, with checksums. */
import type { Contender } from './contender.js';
import { startOnUnixSocket, vproxy } from './vproxy.js';

/** vproxy on a unix socket with integrity on. */
export const vproxyIntegrity: Contender = {
  ...vproxy,
  id: 'vproxy-integrity',
  title: '+integrity',
  start: (setting) => startOnUnixSocket(setting, ',integrity=on'),
};
