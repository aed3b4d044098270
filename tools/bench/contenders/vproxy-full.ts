/** vproxy over a unix socket, with checksums. */
import type { Contender } from './contender.js';
import { startOnUnixSocket, vproxy } from './vproxy.js';

/** vproxy on a unix socket with a checksum over every payload. */
export const vproxyFull: Contender = {
  ...vproxy,
  id: 'vproxy-full',
  title: 'full',
  start: (setting) => startOnUnixSocket(setting, ',integrity=full'),
};
