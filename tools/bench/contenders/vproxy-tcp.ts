/** vproxy over TCP: differs only in the channel, which has no `resume` either. */
import { findFreePort } from '../process/free-port.js';
import type { Contender } from './contender.js';
import { startVproxy, vproxy } from './vproxy.js';

/** vproxy on a TCP connection of the loopback. */
export const vproxyTcp: Contender = {
  ...vproxy,
  id: 'vproxy-tcp',
  title: 'over tcp',
  async start(setting) {
    const port = await findFreePort();
    return startVproxy(setting, `tcp-listen:127.0.0.1:${port},resume=0`, `tcp-connect:127.0.0.1:${port},resume=0`);
  },
};
