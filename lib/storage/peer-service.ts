/** The peer's own `storage` service, as the broker sees it. */
import type { Duplex } from 'node:stream';

/** What the broker needs of the session with the peer. After any change of `isOffered`, call the broker's `wake`. */
export interface StoragePeerService {
  /** Whether there is a session whose peer offers the service `storage`. */
  isOffered(): boolean;
  /** Opens a stream to it. An opening that fails throws, or destroys the stream with a VproxyError. */
  open(): Duplex;
}

/** For a broker without a session. */
export const NO_PEER_SERVICE: StoragePeerService = {
  isOffered: () => false,
  open() {
    throw new Error('there is no service to open');
  },
};
