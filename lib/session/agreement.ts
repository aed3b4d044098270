/** What two establishing HELLOs agree on (R-OPEN-8 to R-OPEN-10, R-AUTH-1). */
import { encodeHelloPayload, type Hello } from '../codec/hello.js';
import { VproxyError } from '../errors.js';

/** The terms of one session. */
export interface Agreement {
  readonly self: Hello;
  readonly peer: Hello;
  /** The payloads of both, byte for byte as they went over the channel. */
  readonly selfPayload: Buffer;
  readonly peerPayload: Buffer;
  /** Whether every frame carries a checksum: either side asked for it. */
  readonly integrity: boolean;
  /** Whether this side's stream ids are odd: its nonce is the greater one. */
  readonly isOdd: boolean;
  /** The version spoken: the highest in both ranges, or null where there is none. */
  readonly version: number | null;
}

/** `peerPayload` is what the peer's HELLO was decoded from, and is copied. */
export function agree(self: Hello, peer: Hello, peerPayload = encodeHelloPayload(peer)): Agreement {
  const version = Math.min(self.version.max, peer.version.max);
  return {
    self,
    peer,
    selfPayload: encodeHelloPayload(self),
    peerPayload: Buffer.from(peerPayload),
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
  if (peer.tls)
    return new VproxyError('auth-failed', 'the peer demands TLS inside the channel, which this side does not have');
  return null;
}
