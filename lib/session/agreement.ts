/** What two establishing HELLOs agree on (R-OPEN-8 to R-OPEN-10). */
import type { Hello } from '../codec/hello.js';

/** The terms of one session. */
export interface Agreement {
  readonly self: Hello;
  readonly peer: Hello;
  /** Whether every frame carries a checksum: either side asked for it. */
  readonly integrity: boolean;
  /** Whether this side's stream ids are odd: its nonce is the greater one. */
  readonly isOdd: boolean;
  /** The version spoken: the highest in both ranges, or null where there is none. */
  readonly version: number | null;
}

export function agree(self: Hello, peer: Hello): Agreement {
  const version = Math.min(self.version.max, peer.version.max);
  return {
    self,
    peer,
    integrity: self.integrity || peer.integrity,
    isOdd: self.nonce > peer.nonce,
    version: version >= Math.max(self.version.min, peer.version.min) ? version : null,
  };
}
