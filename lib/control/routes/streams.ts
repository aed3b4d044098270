/** Streams: looking, and closing one. */
import * as z from 'zod';
import { jsonRoute } from '../route.js';
import { streamStatusSchema } from '../schemas/status.js';
import { numberText } from '../schemas/values.js';
import type { StreamWithRates } from '../stream-rates.js';

export const streamRoutes = [
  jsonRoute({
    method: 'GET',
    path: '/v1/streams',
    summary: 'All streams, with their rates; takes 0.2 s where nobody has asked within the last 3 s',
    status: 200,
    answer: z.array(streamStatusSchema),
    handle: ({ rates }): Promise<StreamWithRates[]> => rates.measure(),
  }),
  jsonRoute({
    method: 'DELETE',
    path: '/v1/streams/{channel}/{id}',
    summary: 'Resets a stream',
    params: z.strictObject({ channel: z.string(), id: numberText(0xffff_ffff) }),
    status: 204,
    answer: null,
    errors: [404],
    handle: ({ proxy }, { params: { channel, id } }) => proxy.closeStream(channel, id),
  }),
];
