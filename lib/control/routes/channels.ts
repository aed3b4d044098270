/** Routes of channels: list, add, remove. */
import type { ChannelOptions } from '../../proxy/channel/channel-options.js';
import { formatKeyPath, type Problem } from '../../settings/problem.js';
import { mergeSettings, readNested, readTable, type SettingsOf, tableSchema } from '../../settings/setting.js';
import { FILE_CHANNEL_SETTINGS, OWN_SETTINGS } from '../../settings/settings-table.js';
import { Place } from '../../settings/value-type.js';
import { channelStatusSchema } from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import type { ControlContext } from '../context/context.js';
import { readForward } from './forwards.js';
import { RequestError } from './request-error.js';
import { jsonRoute } from './route.js';
import { label, removalQuery } from './values.js';

const params = z.strictObject({ label: z.string() });

export const newChannelSchema = tableSchema(z, FILE_CHANNEL_SETTINGS, 'request')
  .extend({ label: label().optional().describe('Its label in this process; default: `default`') })
  .meta({
    id: 'NewChannel',
    description: 'A channel to add; options that are omitted default to those of the process for all channels',
  });

export const channelRoutes = [
  jsonRoute('GET /v1/channels', 'listChannels', {
    summary: 'All channels',
    answer: z.array(channelStatusSchema),
    handle: ({ proxy }) => proxy.listChannels(),
  }),
  jsonRoute('POST /v1/channels', 'addChannel', {
    summary: 'Adds a channel and its forwards',
    body: newChannelSchema,
    status: 201,
    answer: channelStatusSchema,
    errors: [403, 409, 422],
    handle: (context, { body }) => context.proxy.addChannel(optionsOf(context, body)),
  }),
  jsonRoute('GET /v1/channels/{label}', 'getChannel', {
    summary: 'One channel',
    params,
    answer: channelStatusSchema,
    errors: [404],
    handle: ({ proxy }, { params: { label } }) => proxy.channel(label),
  }),
  jsonRoute('DELETE /v1/channels/{label}', 'removeChannel', {
    summary: 'Removes a channel and its forwards; answers once they are removed',
    params,
    query: removalQuery,
    status: 204,
    answer: null,
    errors: [404],
    handle: ({ proxy }, { params: { label }, query: { mode } }) =>
      proxy.removeChannel(label, { isDraining: mode === 'drain' }),
  }),
];

/** Merges the request with the options for all channels. Throws `bad-argument`, naming the field. */
function optionsOf({ process }: ControlContext, { label, ...body }: z.output<typeof newChannelSchema>): ChannelOptions {
  const { address, outgoing = [], incoming = [], ...own } = readSettings(body);
  const forwards = [
    ...outgoing.map((text, index) => readForward(`outgoing[${index}]`, 'outgoing', text)),
    ...incoming.map((text, index) => readForward(`incoming[${index}]`, 'incoming', text)),
  ];
  if (address === undefined) throw fieldError('address', 'missing');
  return {
    ...process.channelDefaults,
    ...mergeSettings(OWN_SETTINGS, process.channelDefaults, own),
    ...(typeof label === 'string' && { label }),
    address,
    forwards,
  };
}

function readSettings(body: object): SettingsOf<typeof FILE_CHANNEL_SETTINGS> {
  const problems: Problem[] = [];
  const place = new Place('request', problems);
  const said = { ...readTable(FILE_CHANNEL_SETTINGS, body, place), ...readNested(FILE_CHANNEL_SETTINGS, body, place) };
  const [first] = problems;
  if (first !== undefined) throw fieldError(formatKeyPath(first.where), first.message);
  return said;
}

const fieldError = (field: string, message: string): RequestError =>
  new RequestError('bad-argument', message, { field });
