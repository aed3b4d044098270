/** Routes of forwards, services, ports, egresses and streams. */
import { badArgument } from '../../errors.js';
import { MAX_ADDED, MAX_ASK_S, MAX_FOR_S } from '../../forward/egress/rules.js';
import type { Direction } from '../../forward/forms/endpoint-form.js';
import { type ForwardSpec, parseForwardSpec } from '../../forward/spec.js';
import {
  directionSchema,
  egressQuestionSchema,
  egressStatsSchema,
  egressStatusSchema,
  egressTestSchema,
  forwardStatusSchema,
  portWithUrlSchema,
  serviceStatusSchema,
  streamWithRatesSchema,
} from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import { inField } from './request-error.js';
import { jsonRoute } from './route.js';
import { numberText, onlyChannel, removalQuery } from './values.js';

export const newForwardSchema = z
  .strictObject({
    direction: directionSchema,
    spec: z
      .string()
      .describe('As -o and -i take it')
      .meta({ examples: ['ssh:127.0.0.1:0'] }),
    channel: onlyChannel(),
  })
  .meta({ id: 'NewForward', description: 'A forward to add' });

export const forwardRoutes = [
  jsonRoute('GET /v1/forwards', 'listForwards', {
    summary: 'All forwards',
    answer: z.array(forwardStatusSchema),
    handle: ({ proxy }) => proxy.listForwards(),
  }),
  jsonRoute('POST /v1/forwards', 'addForward', {
    summary: 'Adds a forward to a channel',
    body: newForwardSchema,
    status: 201,
    answer: forwardStatusSchema,
    errors: [403, 404, 409],
    handle: ({ proxy }, { body: { direction, spec, channel } }) =>
      proxy.addForward(readForward('spec', direction, spec), channel),
  }),
  jsonRoute('DELETE /v1/forwards/{id}', 'removeForward', {
    summary: 'Removes a forward; answers once it is removed',
    params: z.strictObject({ id: z.string() }),
    query: removalQuery,
    status: 204,
    answer: null,
    errors: [404],
    handle: ({ proxy }, { params: { id }, query: { mode } }) =>
      proxy.removeForward(id, { isDraining: mode === 'drain' }),
  }),
  jsonRoute('GET /v1/services', 'listServices', {
    summary: 'The services offered to the peers and by them',
    answer: z.array(serviceStatusSchema),
    handle: ({ proxy }) => proxy.listServices(),
  }),
  jsonRoute('GET /v1/ports', 'listPorts', {
    summary: 'The ports announced to the peers and by them',
    answer: z.array(portWithUrlSchema),
    handle: ({ process, proxy }) =>
      proxy.listPorts().map((one) => {
        const url = one.announcedBy === 'peer' ? process.portUrl?.(one.channel, one.port) : null;
        return { ...one, url: url ?? null };
      }),
  }),
];

/** Parses a forward in a body. An error names its field, such as `outgoing[0]`. */
export function readForward(field: string, direction: Direction, text: string): ForwardSpec {
  return inField(field, () => parseForwardSpec(direction, text));
}

const egressName = { name: z.string().describe('The name of the egress'), channel: onlyChannel() };

export const newEgressTestSchema = z
  .strictObject({
    ...egressName,
    destination: z
      .string()
      .describe('`HOST:PORT`, with an IPv6 address in brackets')
      .meta({ examples: ['example.org:443'] }),
  })
  .meta({ id: 'NewEgressTest', description: 'A destination to test' });

export const newEntriesSchema = z
  .strictObject({
    ...egressName,
    destinations: z
      .array(z.string())
      .max(MAX_ADDED)
      .optional()
      .describe('Entries as in `allow` of a configuration')
      .meta({ examples: [['deb.debian.org:80,443']] }),
    forS: z.number().min(1).max(MAX_FOR_S).optional().describe('How long; default: until the reset'),
    askS: z
      .number()
      .min(1)
      .max(MAX_ASK_S)
      .optional()
      .describe('How long destinations that no entry names wait for an answer, until the reset; default: as before'),
  })
  .meta({ id: 'NewEgressEntries', description: 'Entries to add to what an egress allows' });

export const newAnswerSchema = z
  .strictObject({
    id: z.string().describe('The id of the question'),
    isAllowed: z.boolean().describe('Whether the destination is allowed'),
    forS: z.number().min(1).max(MAX_FOR_S).optional().describe('How long; default: until the reset'),
    channel: z.string().optional().describe('The label of the channel; default: that of the question'),
  })
  .meta({ id: 'NewEgressAnswer', description: 'An answer to a question of an egress' });

const msOf = (seconds: number | undefined): number | null => (seconds === undefined ? null : seconds * 1000);

const egressRoute = <Change extends 'block' | 'reset'>(change: Change, summary: string, operation: `${Change}Egress`) =>
  jsonRoute(`POST /v1/egress/${change}`, operation, {
    summary,
    body: z.strictObject(egressName),
    answer: egressStatusSchema,
    errors: [404],
    handle: ({ proxy }, { body: { name, channel } }) => proxy[operation](name, channel),
  });

export const egressRoutes = [
  jsonRoute('GET /v1/egress', 'listEgress', {
    summary: 'The egresses of all channels, with their rules',
    answer: z.array(egressStatusSchema),
    handle: ({ proxy }) => proxy.listEgress(),
  }),
  jsonRoute('POST /v1/egress/test', 'testEgress', {
    summary: 'Tests whether an egress would allow a connection; resolves the name, but does not connect',
    body: newEgressTestSchema,
    answer: egressTestSchema,
    errors: [404],
    handle: ({ proxy }, { body: { name, destination, channel }, signal }) =>
      proxy.testEgress(name, destination, channel, signal),
  }),
  jsonRoute('POST /v1/egress/allow', 'allowEgress', {
    summary: 'Adds entries to what an egress allows, for a while',
    body: newEntriesSchema,
    answer: egressStatusSchema,
    errors: [404],
    handle: ({ proxy }, { body: { name, destinations = [], forS, askS, channel } }) => {
      if (destinations.length === 0 && askS === undefined) throw badArgument('neither destinations nor askS');
      return proxy.allowEgress(name, destinations, msOf(forS), channel, msOf(askS) ?? undefined);
    },
  }),
  jsonRoute('GET /v1/egress/stats', 'listEgressStats', {
    summary: 'What the egresses did in the last hour, by destination, those with most bytes first',
    answer: z.array(egressStatsSchema),
    handle: ({ proxy }) => proxy.listEgressStats(),
  }),
  jsonRoute('GET /v1/egress/questions', 'listEgressQuestions', {
    summary: 'The destinations that no entry names, and that wait for an answer',
    answer: z.array(egressQuestionSchema),
    handle: ({ proxy }) => proxy.listQuestions(),
  }),
  jsonRoute('POST /v1/egress/answer', 'answerEgress', {
    summary: 'Answers a question: adds an entry for its destination to what the egress allows or denies',
    body: newAnswerSchema,
    answer: egressStatusSchema,
    errors: [404],
    handle: ({ proxy }, { body: { id, isAllowed, forS, channel } }) =>
      proxy.answerEgress(id, isAllowed, msOf(forS), channel),
  }),
  egressRoute('block', 'Denies everything, and resets the connections of an egress', 'blockEgress'),
  egressRoute('reset', 'Undoes all changes that were made to an egress at run time', 'resetEgress'),
];

export const streamRoutes = [
  jsonRoute('GET /v1/streams', 'listStreams', {
    summary: 'All streams, with their rates; takes 0.2 s unless a client asked within the last 3 s',
    answer: z.array(streamWithRatesSchema),
    handle: ({ rates }) => rates.measure(),
  }),
  jsonRoute('DELETE /v1/streams/{channel}/{id}', 'closeStream', {
    summary: 'Resets a stream',
    params: z.strictObject({ channel: z.string(), id: numberText(0xffff_ffff) }),
    status: 204,
    answer: null,
    errors: [404],
    handle: ({ proxy }, { params: { channel, id } }) => proxy.closeStream(channel, id),
  }),
];
