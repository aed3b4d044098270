/** vproxy over a unix socket, with a session that can outlive it. */
import type { Contender } from './contender.js';
import { startOnUnixSocket, vproxy } from './vproxy.js';

/** vproxy on a unix socket, keeping what it sent until the peer has it. */
export const vproxyResume: Contender = {
  ...vproxy,
  id: 'vproxy-resume',
  title: 'resume',
  start: (setting) => startOnUnixSocket(setting, ',resume=60s'),
};
