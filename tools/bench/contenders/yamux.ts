/** hashicorp/yamux, as Debian packages it. */
import { goPeer } from './go-peer.js';

/** yamux at its defaults: a window of 256 KiB for each stream. */
export const yamux = goPeer('yamux', 'github.com/hashicorp/yamux', 'golang-github-hashicorp-yamux-dev');
