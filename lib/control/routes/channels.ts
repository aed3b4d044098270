/** Channels: looking, adding, removing. */
import * as z from 'zod';
import { parseChannel } from '../../channel/address.js';
import type { ChannelOptions } from '../../proxy/channel-options.js';
import type { ChannelStatus } from '../../proxy/status.js';
import type { ControlContext } from '../control-context.js';
import { parseForwards } from '../parse-forwards.js';
import { inField } from '../request-error.js';
import { jsonRoute } from '../route.js';
import { channelStatusSchema } from '../schemas/status.js';
import { label, removalQuery } from '../schemas/values.js';

const params = z.strictObject({ label: z.string() });

const addition = z
  .strictObject({
    address: z.string().describe('KIND:ADDRESS[,key=value…], as -c takes it, or a URI'),
    label: label().optional().describe('Its name in this process'),
    outgoing: z.array(z.string()).max(1000).default([]).describe('Forwards as -o takes them'),
    incoming: z.array(z.string()).max(1000).default([]).describe('Forwards as -i takes them'),
    name: z.string().max(256).optional().describe('The name for this side that the peer is told'),
    waitS: z.number().min(0).max(1_000_000).optional().describe('How long a local connection waits for a session'),
    deadAfterS: z
      .number()
      .min(0)
      .max(1_000_000)
      .optional()
      .describe('Silence for so long ends the session; 0: never. Default: what suits the kind of channel'),
    insecure: z.boolean().optional().describe('Lets it listen on addresses that other machines reach'),
  })
  .meta({ id: 'NewChannel', description: 'A channel to be added' });

/** The body of `POST /v1/channels`. */
export type NewChannel = z.input<typeof addition>;

export const channelRoutes = [
  jsonRoute({
    method: 'GET',
    path: '/v1/channels',
    summary: 'All channels',
    status: 200,
    answer: z.array(channelStatusSchema),
    handle: ({ proxy }): ChannelStatus[] => proxy.listChannels(),
  }),
  jsonRoute({
    method: 'POST',
    path: '/v1/channels',
    summary: 'Adds a channel, with its forwards',
    body: addition,
    status: 201,
    answer: channelStatusSchema,
    errors: [403, 409],
    handle: (context, { body }): Promise<ChannelStatus> => context.proxy.addChannel(optionsOf(context, body)),
  }),
  jsonRoute({
    method: 'GET',
    path: '/v1/channels/{label}',
    summary: 'One channel',
    params,
    status: 200,
    answer: channelStatusSchema,
    errors: [404],
    handle: ({ proxy }, { params: { label } }): ChannelStatus => proxy.channel(label),
  }),
  jsonRoute({
    method: 'DELETE',
    path: '/v1/channels/{label}',
    summary: 'Removes a channel with its forwards; answers when it has gone',
    params,
    query: removalQuery,
    status: 204,
    answer: null,
    errors: [404],
    handle: ({ proxy }, { params: { label }, query: { mode } }) =>
      proxy.removeChannel(label, { isDraining: mode === 'drain' }),
  }),
];

function optionsOf({ process }: ControlContext, body: z.output<typeof addition>): ChannelOptions {
  const { address, label, outgoing, incoming, name, waitS, deadAfterS, insecure } = body;
  inField('address', () => parseChannel(address));
  return {
    ...process.channelDefaults,
    address,
    forwards: [...parseForwards('outgoing', outgoing), ...parseForwards('incoming', incoming)],
    ...(label !== undefined && { label }),
    ...(name !== undefined && { name }),
    ...(waitS !== undefined && { waitMs: waitS * 1000 }),
    ...(deadAfterS !== undefined && { deadAfterMs: deadAfterS === 0 ? null : deadAfterS * 1000 }),
    ...(insecure !== undefined && { insecure }),
  };
}
