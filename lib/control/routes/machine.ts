/** Routes of the peer's machine: information and boot progress. */
import { askBoot, askMachine, type InfoCallOptions } from '../../services/info/info-call.js';
import { INFO_SERVICE } from '../../services/info/info-messages.js';
import { judgeBoot } from '../../services/info/judge-boot.js';
import type { MuxStream } from '../../session/mux-stream.js';
import { bootStatusSchema, machineInfoSchema } from '../../status/machine-schemas.js';
import * as z from '../../status/zod.js';
import { systemClock } from '../../util/clock.js';
import { type ControlContext, labelOf } from '../context/context.js';
import { jsonRoute } from './route.js';
import { onlyChannel } from './values.js';

const query = z.strictObject({ channel: onlyChannel() });

export const machineRoutes = [
  jsonRoute('GET /v1/info', 'getInfo', {
    summary: 'Information that the machine of a peer reports about itself, and its clock offset',
    query,
    answer: machineInfoSchema,
    errors: [403, 404, 503],
    handle: async (context, { query: { channel }, signal }) => {
      const { label, value } = await ask(context, channel, signal, askMachine);
      return { channel: label, ...value };
    },
  }),
  jsonRoute('GET /v1/boot', 'getBoot', {
    summary: 'Boot progress of the machine of a peer',
    query,
    answer: bootStatusSchema,
    errors: [403, 404, 503],
    handle: async (context, { query: { channel }, signal }) => {
      const { label, value } = await ask(context, channel, signal, askBoot);
      return { channel: label, ...judgeBoot(value), ...value };
    },
  }),
];

/** Asks the peer; returns its answer and the label of its channel. */
async function ask<T>(
  { proxy }: ControlContext,
  channel: string | undefined,
  signal: AbortSignal,
  question: (stream: MuxStream, options: InfoCallOptions) => Promise<T>,
): Promise<{ readonly label: string; readonly value: T }> {
  const stream = await proxy.openStream(INFO_SERVICE, channel);
  const value = await question(stream, { clock: systemClock, signal });
  return { label: labelOf(proxy, channel), value };
}
