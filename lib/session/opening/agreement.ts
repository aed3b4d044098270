/** The outcome of two establishing HELLOs, and the reasons for refusing it (R-OPEN-8 to R-OPEN-10, R-AUTH-1, R-AUTH-3). */

import { type Integrity, strongerIntegrity } from '../../codec/header.js';
import { encodeHelloPayload, type Hello } from '../../codec/hello.js';
import { VproxyError } from '../../errors.js';

/** The terms of one session. */
export interface Agreement {
  readonly self: Hello;
  readonly peer: Hello;
  /** Both payloads, byte for byte as they went over the channel. */
  readonly selfPayload: Buffer;
  readonly peerPayload: Buffer;
  /** The check of DATA in both directions: the stronger level of the two. */
  readonly integrity: Integrity;
  /** Whether this side's stream ids are odd: its nonce is the greater one. */
  readonly isOdd: boolean;
  /** The protocol version: the highest in both ranges, or null if they have none in common. */
  readonly version: number | null;
}

/** `peerPayload`, from which the peer's HELLO was decoded, is copied. */
export function agree(self: Hello, peer: Hello, peerPayload = encodeHelloPayload(peer)): Agreement {
  const version = Math.min(self.version.max, peer.version.max);
  return {
    self,
    peer,
    selfPayload: encodeHelloPayload(self),
    peerPayload: Buffer.from(peerPayload),
    integrity: strongerIntegrity(self.integrity, peer.integrity),
    isOdd: self.nonce > peer.nonce,
    version: version >= Math.max(self.version.min, peer.version.min) ? version : null,
  };
}

/** The entry in a HELLO's `features` of a side that can resume sessions, and the prefix of each session id (R-RESUME-1). */
export const RESUME_FEATURE = 'resume';
const RESUME_PREFIX = 'resume:';

/** Whether a side lets its sessions outlive their links. */
export const offersResume = ({ features }: Hello): boolean => features.includes(RESUME_FEATURE);

/** Whether a session can outlive its link. */
export const isResumable = ({ self, peer }: Agreement): boolean => offersResume(self) && offersResume(peer);

/** The entry in a HELLO's `features` of a side that can open and serve flows of datagrams (R-DGRAM-1). */
export const DATAGRAM_FEATURE = 'datagram';

/** Whether the sides of a session can open flows to each other. */
export const hasDatagrams = ({ self, peer }: Agreement): boolean =>
  [self, peer].every(({ features }) => features.includes(DATAGRAM_FEATURE));

/** The resumable session that both sides have; null: none. */
export function commonSession({ self, peer, isOdd }: Agreement): string | null {
  const [preferred, other] = isOdd ? [self, peer] : [peer, self];
  const feature = preferred.features.find((one) => one.startsWith(RESUME_PREFIX) && other.features.includes(one));
  return feature === undefined ? null : feature.slice(RESUME_PREFIX.length);
}

/** The entries in a HELLO's `features` for the sessions with these ids. */
export const resumeFeatures = (ids: readonly string[]): string[] => [
  RESUME_FEATURE,
  ...ids.map((id) => `${RESUME_PREFIX}${id}`),
];

/** The entry in a HELLO's `features` of a side whose channel has another peer (R-CHANNEL-3). */
export const BUSY_FEATURE = 'busy';

/** The refusal of a session on a channel that has another peer; null if neither side knows of one. */
export const busyRefusal = ({ self, peer }: Agreement): VproxyError | null =>
  [self, peer].some(({ features }) => features.includes(BUSY_FEATURE)) ? channelBusy() : null;

export const channelBusy = (): VproxyError => new VproxyError('channel-busy', 'the listener is in use by another peer');

/** The refusal of a session that only one side requires to be protected; null if both do, or neither. */
export function protectionRefusal({ self, peer }: Agreement): VproxyError | null {
  if (self.tls === peer.tls) return null;
  const who = self.tls
    ? 'this side requires TLS and the peer does not'
    : 'the peer requires TLS and this side does not';
  const remedy = [self, peer].some(({ agent }) => agent.startsWith('vproxy-guest '))
    ? 'vproxy-guest has no TLS: give both sides the same key with --key FILE in place of tls='
    : 'set tls= on the channel at both ends';
  return new VproxyError('auth-failed', `${who}; ${remedy}`);
}

/** The refusal of a handshake on a layer that is not bound to the one in the clear: one may be an attacker's (R-AUTH-3). */
export function outerRefusal({ peer }: Agreement, outer: Agreement): VproxyError | null {
  const isBound = [outer.self.nonce, outer.peer.nonce].every((nonce) => peer.features.includes(`outer:${nonce}`));
  return isBound ? null : new VproxyError('auth-failed', "the peer's HELLO inside TLS belongs to another handshake");
}

/** The refusal of an agreement without a common version. */
export function refusal({ self, peer, version }: Agreement): VproxyError | null {
  if (version === null) {
    const ranges = `${self.version.min}–${self.version.max} here, ${peer.version.min}–${peer.version.max} at the peer`;
    return new VproxyError('version-mismatch', `no common protocol version: ${ranges}`);
  }
  return null;
}
