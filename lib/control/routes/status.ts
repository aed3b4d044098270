/** The process at a glance, and one channel after the other. */
import type { ChannelStatus } from '../../proxy/status.js';
import { describeProcess, type ProcessStatus } from '../process-status.js';
import { jsonRoute } from '../route.js';
import { controlStatusSchema } from '../schemas/process.js';

/** The answer of `GET /v1/status`. */
export interface ControlStatus {
  /** The process as a whole. */
  readonly process: ProcessStatus;
  /** Every channel. */
  readonly channels: readonly ChannelStatus[];
  /** How many there are, on all channels together. */
  readonly forwards: number;
  /** Open now, on all channels together. */
  readonly streams: number;
}

export const statusRoutes = [
  jsonRoute({
    method: 'GET',
    path: '/v1/status',
    summary: 'The process and its channels',
    status: 200,
    answer: controlStatusSchema,
    handle: ({ proxy, process, eventLoopDelay }): ControlStatus => {
      const channels = proxy.listChannels();
      return {
        process: describeProcess(process, eventLoopDelay.take()),
        channels,
        forwards: proxy.listForwards().length,
        streams: channels.reduce((sum, { session }) => sum + (session?.streams ?? 0), 0),
      };
    },
  }),
];
