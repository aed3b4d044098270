/** The counters of a channel, for their schema and metrics. Imports no schemas, as every proxy loads this table. */

/** The traffic of a channel since it was added: descriptions of the fields of `totals` in its status. */
export const CHANNEL_TOTALS = {
  sentBytes: 'Stream payload sent',
  receivedBytes: 'Stream payload received',
  sentFrames: 'Frames sent, of all types',
  receivedFrames: 'Frames received, of all types',
  skippedBytes: 'Bytes that belonged to no session',
  stallMs: 'Total time without progress while data was waiting, counting stalls of a second or more',
  streamsOpened: 'Streams opened by either side',
  streamsFailed: 'Streams that did not end cleanly, including refused ones',
  resumptions: 'How often a session resumed on another link',
  resentBytes: 'Bytes resent on resumption, of all types of frames',
} as const;
