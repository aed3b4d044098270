/** The session of the moment, as it stands in a status. */
import type { ChannelTraits } from '../channel/kind.js';
import type { Session } from '../session/session.js';
import type { SessionStatus } from './status.js';

/** What a session on a channel with these traits says of itself. */
export function describeSession(session: Session, { tls }: ChannelTraits): SessionStatus {
  const { peer, integrity, version } = session.agreement;
  return {
    peer: { agent: peer.agent, name: peer.name, services: [...session.peerServices] },
    protocolVersion: version ?? 0,
    integrity,
    key: session.keyId,
    tls,
    ageMs: Math.round(session.ageMs),
    roundTripMs: session.roundTripMs,
    clockOffsetMs: session.clockOffsetMs,
    streams: session.streamCount,
    sendCreditBytes: session.sendCreditBytes,
    unwrittenBytes: session.unwrittenBytes,
  };
}
