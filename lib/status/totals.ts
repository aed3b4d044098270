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

interface CallRow {
  /** The counter, and the histogram of durations, without `vproxy_` in front. */
  readonly total: string;
  readonly seconds: string;
  readonly what: string;
}

/** A channel's calls that are counted by result, each with its metrics. */
export const CALL_KINDS = {
  storage: { total: 'storage_calls_total', seconds: 'storage_call_seconds', what: 'Storage calls' },
  exec: { total: 'exec_commands_total', seconds: 'exec_command_seconds', what: 'Commands run for the peer' },
  copy: { total: 'copies_total', seconds: 'copy_seconds', what: 'Copies made for the peer' },
  egress: { total: 'egress_connections_total', seconds: 'egress_connection_seconds', what: 'Connections of an egress' },
} as const satisfies Record<string, CallRow>;

export type CallKind = keyof typeof CALL_KINDS;
