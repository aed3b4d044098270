/** All contenders, in the order of their columns. */
import type { Contender } from './contender.js';
import { relays } from './relays.js';
import { smux } from './smux.js';
import { socat } from './socat.js';
import { socket } from './socket.js';
import { ssh } from './ssh.js';
import { vproxy } from './vproxy.js';
import { vproxyFull } from './vproxy-full.js';
import { vproxyResume } from './vproxy-resume.js';
import { vproxyTcp } from './vproxy-tcp.js';
import { vproxyTls } from './vproxy-tls.js';
import { yamux } from './yamux.js';

/** Every contender; vproxy with its default settings is the first. */
export const CONTENDERS: readonly Contender[] = [
  vproxy,
  vproxyFull,
  vproxyTls,
  vproxyTcp,
  vproxyResume,
  relays,
  socket,
  yamux,
  smux,
  ssh,
  socat,
];
