/** Channels: looking, adding, removing. */
import * as z from 'zod';
import { parseChannel } from '../../channel/address/address.js';
import { VproxyError } from '../../errors.js';
import type { ChannelOptions } from '../../proxy/channel-options.js';
import { requireKeyFile } from '../../settings/arguments.js';
import { parseCopyValue, parseExecValue } from '../../settings/permissions.js';
import { channelStatusSchema } from '../../status/schemas.js';
import type { ChannelStatus } from '../../status/types.js';
import { escapeText } from '../../util/escape.js';
import type { ControlContext } from '../context/context.js';
import { parseForwards } from './forwards.js';
import { inField } from './request-error.js';
import { jsonRoute } from './route.js';
import { label, removalQuery } from './values.js';

/** As many as a channel may have. */
const MAX_KEYS = 32;

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
    keys: z
      .array(z.string())
      .max(MAX_KEYS)
      .optional()
      .describe(
        'Absolute paths, on this machine, of files with keys that its peer must have as well, as --key takes them',
      ),
    allowExec: z
      .union([z.boolean(), z.array(z.string()).max(1000)])
      .optional()
      .describe('Whether its peer may run commands here: any, none, or the programs of these absolute paths'),
    allowCopy: z
      .union([z.boolean(), z.string()])
      .optional()
      .describe('Whether its peer may read and write files here: all, none, or those below this absolute path'),
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
    errors: [403, 409, 422],
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
  const { address, label, outgoing, incoming, name, waitS, deadAfterS, insecure, keys, allowExec, allowCopy } = body;
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
    ...(keys !== undefined && { keyFiles: keys.map((path, at) => inField(`keys[${at}]`, () => parseKeyPath(path))) }),
    ...(allowExec !== undefined && { exec: inField('allowExec', () => parseExecValue(allowExec)) }),
    ...(allowCopy !== undefined && { copy: inField('allowCopy', () => parseCopyValue(allowCopy)) }),
  };
}

/** The folder of this process is nothing that who asks would know. */
function parseKeyPath(path: string): string {
  if (requireKeyFile(path).startsWith('/')) return path;
  throw new VproxyError('bad-argument', `"${escapeText(path, 80)}" is not the absolute path of a file`);
}
