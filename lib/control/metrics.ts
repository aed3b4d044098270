/**
 * The figures of a process for Prometheus. Labels are those of channels and words of our own: nothing that a peer says
 * is one, or it could make as many series as it likes.
 */
import { CHANNEL_STATES, type ChannelStatus, type ForwardStatus, type SessionStatus } from '../proxy/status.js';
import type { ControlContext } from './control-context.js';
import { formatMetrics, type Metric, type MetricSample } from './metrics-text.js';
import { processMetrics } from './process-metrics.js';

/** The page that `GET /metrics` answers with. */
export function describeMetrics({ proxy, process }: Pick<ControlContext, 'proxy' | 'process'>): string {
  const channels = proxy.listChannels();
  return formatMetrics([
    ...processMetrics(process.version),
    ...channelMetrics(channels),
    forwardMetric(channels, proxy.listForwards()),
  ]);
}

/** A metric with one series for each channel for which `look` gives a number. */
function eachChannel(channels: readonly ChannelStatus[]) {
  return (
    type: Metric['type'],
    name: string,
    help: string,
    look: (channel: ChannelStatus) => number | null | undefined,
  ): Metric => {
    const samples = channels.flatMap((channel): MetricSample[] => {
      const value = look(channel) ?? null;
      return value === null ? [] : [{ labels: { channel: channel.label }, value }];
    });
    return { name: `vproxy_channel_${name}`, type, help, samples };
  };
}

function channelMetrics(channels: readonly ChannelStatus[]): Metric[] {
  const each = eachChannel(channels);
  const ofSession = (look: (session: SessionStatus) => number | null) => (channel: ChannelStatus) =>
    channel.session === null ? null : look(channel.session);
  return [
    {
      name: 'vproxy_channel_state',
      type: 'gauge',
      help: '1 for the state that the channel is in, 0 for the others.',
      samples: channels.flatMap(({ label, state }) =>
        CHANNEL_STATES.map((each) => ({ labels: { channel: label, state: each }, value: each === state ? 1 : 0 })),
      ),
    },
    each('counter', 'sessions_total', 'Sessions that were established.', ({ history }) => history.sessions),
    {
      name: 'vproxy_channel_session_ends_total',
      type: 'counter',
      help: 'Sessions that ended, by the code of the reason.',
      samples: channels.flatMap(({ label, history }) =>
        Object.entries(history.ends).map(([code, value]) => ({ labels: { channel: label, code }, value })),
      ),
    },
    each('counter', 'sent_bytes_total', 'Payload of streams that was sent.', ({ totals }) => totals.sentBytes),
    each('counter', 'received_bytes_total', 'Payload of streams that came.', ({ totals }) => totals.receivedBytes),
    each('counter', 'sent_frames_total', 'Frames of every type that were sent.', ({ totals }) => totals.sentFrames),
    each('counter', 'received_frames_total', 'Frames of every type that came.', ({ totals }) => totals.receivedFrames),
    each('counter', 'skipped_bytes_total', 'Bytes that belonged to no session.', ({ totals }) => totals.skippedBytes),
    each(
      'counter',
      'stall_seconds_total',
      'Time in which the channel took nothing although something waited.',
      ({ totals }) => totals.stallMs / 1000,
    ),
    each(
      'counter',
      'streams_opened_total',
      'Streams that were opened, by either side.',
      ({ totals }) => totals.streamsOpened,
    ),
    each(
      'counter',
      'streams_failed_total',
      'Streams that did not end in order, refused ones included.',
      ({ totals }) => totals.streamsFailed,
    ),
    each('gauge', 'streams', 'Streams that are open.', ({ session }) => session?.streams ?? 0),
    each(
      'gauge',
      'session_age_seconds',
      'Age of the session, where there is one.',
      ofSession(({ ageMs }) => ageMs / 1000),
    ),
    each(
      'gauge',
      'round_trip_seconds',
      'Round trip through the peer, as it was measured last.',
      ofSession(({ roundTripMs }) => (roundTripMs === null ? null : roundTripMs / 1000)),
    ),
    each(
      'gauge',
      'send_credit_bytes',
      'What may be sent before the peer gives more.',
      ofSession(({ sendCreditBytes }) => sendCreditBytes),
    ),
    each(
      'gauge',
      'unwritten_bytes',
      'What the channel was given and has not written.',
      ofSession(({ unwrittenBytes }) => unwrittenBytes),
    ),
  ];
}

function forwardMetric(channels: readonly ChannelStatus[], forwards: readonly ForwardStatus[]): Metric {
  const counts = new Map(channels.map(({ label }) => [label, 0]));
  for (const { channel } of forwards) counts.set(channel, (counts.get(channel) ?? 0) + 1);
  return {
    name: 'vproxy_channel_forwards',
    type: 'gauge',
    help: 'Forwards of the channel, those that drain included.',
    samples: [...counts].map(([channel, value]) => ({ labels: { channel }, value })),
  };
}
