/** xtaci/smux, as Debian packages it. */
import { goPeer } from './go-peer.js';

/** smux at its defaults: version 1, frames of 32 KiB, 4 MiB for all streams together. */
export const smux = goPeer('smux', 'github.com/xtaci/smux', 'golang-github-xtaci-smux-dev');
