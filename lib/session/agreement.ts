/** What two establishing HELLOs agree on (R-OPEN-8 to R-OPEN-10, R-AUTH-1). */
import type { Hello } from '../codec/hello.js';
import { VproxyError } from '../errors.js';

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

/** Why there can be no session on these terms: no common version, or a protection that this side does not have. */
export function refusal({ self, peer, version }: Agreement): VproxyError | null {
  if (version === null) {
    const ranges = `${self.version.min}–${self.version.max} here, ${peer.version.min}–${peer.version.max} at the peer`;
    return new VproxyError('version-mismatch', `no common version of the protocol: ${ranges}`);
  }
  if (peer.auth !== null)
    return new VproxyError('auth-failed', 'the peer demands authentication and this side has no key');
  if (peer.tls)
    return new VproxyError('auth-failed', 'the peer demands TLS inside the channel, which this side does not have');
  return null;
}
