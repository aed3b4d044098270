/** The counters of a channel. Their schema and their metrics are made of this table, which loads no schemas: every proxy has it. */

/** What went over a channel since it was added, by the fields of `totals` in its status. */
export const CHANNEL_TOTALS = {
  sentBytes: 'Payload of streams that was sent',
  receivedBytes: 'Payload of streams that was received',
  sentFrames: 'Frames of every type that were sent',
  receivedFrames: 'Frames of every type that were received',
  skippedBytes: 'Bytes that belonged to no session',
  stallMs: 'The time in which nothing passed although something waited, in waits of a second or more',
  streamsOpened: 'Streams that either side has opened',
  streamsFailed: 'Streams that did not end in order, including refused ones',
  resumptions: 'How often a session went on with another link',
  resentBytes: 'What was sent again then, of frames of every type',
} as const;
