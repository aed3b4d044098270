/** The states of a channel, and the status of sessions and streams. Imports no schemas, as every proxy loads it. */
import type { ChannelTraits } from '../channel/kind.js';
import { offersResume } from '../session/opening/agreement.js';
import type { Session } from '../session/session.js';
import type { MessageCounts } from '../session/stream.js';
import type { DatagramCounts, SessionStatus, StreamStatus } from './types.js';

/** All states of a channel; `schemas.ts` describes each. */
export const CHANNEL_STATES = [
  'opening',
  'waiting',
  'backing-off',
  'auth-failed',
  'established',
  'suspended',
  'draining',
  'failed',
] as const;

/** The message counts of datagram flows; null if there are none. */
export function describeMessages(messages: MessageCounts | null = null): DatagramCounts | null {
  if (messages === null) return null;
  const { sent, sendDropped, received, receiveDropped } = messages;
  return { sent, sendDropped, received, receiveDropped };
}

export function describeSession(session: Session, { tls }: ChannelTraits): SessionStatus {
  const { peer, integrity, version } = session.agreement;
  return {
    peer: { agent: peer.agent, name: peer.name, services: [...session.peerServices.names] },
    protocolVersion: version ?? 0,
    integrity,
    key: session.keyId,
    tls,
    resume: { here: offersResume(session.agreement.self), peer: offersResume(peer) },
    ageMs: Math.round(session.ageMs),
    roundTripMs: session.roundTripMs,
    silentMs: session.overdueMs === null ? null : Math.round(session.overdueMs),
    clockOffsetMs: session.peerServices.clockOffsetMs,
    streams: session.streams.size,
    sendCreditBytes: session.sendCreditBytes,
    unwrittenBytes: session.unwrittenBytes,
  };
}

export function describeStreams(channel: string, session: Session): StreamStatus[] {
  const { sendCreditBytes } = session;
  const nowMs = session.clock.now();
  return session.streams.list().map((stream) => ({
    channel,
    id: stream.id,
    service: stream.service,
    direction: stream.isIncoming ? 'incoming' : 'outgoing',
    forward: stream.owner,
    from: stream.from,
    ageMs: Math.round(nowMs - stream.openedAtMs),
    sentBytes: stream.sentBytes,
    receivedBytes: stream.receivedBytes,
    sendCreditBytes: stream.sendCreditBytes,
    receiveCreditBytes: stream.receiveCreditBytes,
    waitsFor: stream.waitsFor(sendCreditBytes),
    reached: stream.reached,
    datagrams: describeMessages(stream.messages),
  }));
}
