/** Routes of the peer's machine: information, boot progress, freeze and thaw. */

import { FREEZE_RANGE_MS, MAX_FREEZE_PATHS } from '../../services/freeze/freeze-messages.js';
import { askBoot, askMachine, type InfoCallOptions } from '../../services/info/info-call.js';
import { INFO_SERVICE } from '../../services/info/info-messages.js';
import { judgeBoot } from '../../services/info/judge-boot.js';
import type { MuxStream } from '../../session/mux-stream.js';
import {
  bootStatusSchema,
  frozenAnswerSchema,
  machineInfoSchema,
  thawedAnswerSchema,
} from '../../status/machine-schemas.js';
import * as z from '../../status/zod.js';
import { systemClock } from '../../util/clock.js';
import { type ControlContext, labelOf } from '../context/context.js';
import { freezePeer, thawPeer } from '../context/freezes.js';
import { jsonRoute } from './route.js';
import { onlyChannel } from './values.js';

const query = z.strictObject({ channel: onlyChannel() });

/** How long file systems stay frozen by default, in seconds. */
const FREEZE_S = 10;

const freezeBody = z.strictObject({
  channel: onlyChannel(),
  paths: z
    .array(z.string().startsWith('/', 'must be an absolute path').max(4096))
    .max(MAX_FREEZE_PATHS)
    .optional()
    .describe('The mount points to freeze; default: all that can be frozen'),
  forS: z
    .int()
    .min(FREEZE_RANGE_MS.min / 1000)
    .max(FREEZE_RANGE_MS.max / 1000)
    .optional()
    .describe(`The time after which the machine thaws by itself; default ${FREEZE_S}`),
});

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
  jsonRoute('POST /v1/freeze', 'freeze', {
    summary: 'Freezes file systems of the machine of a peer; answers once they are frozen',
    body: freezeBody,
    answer: frozenAnswerSchema,
    errors: [403, 404, 409, 503],
    handle: async ({ proxy }, { body: { channel, paths = [], forS = FREEZE_S }, signal }) => {
      const label = labelOf(proxy, channel);
      const call = await freezePeer(proxy, label, { paths, forMs: forS * 1000 }, signal);
      return { channel: label, paths: [...call.paths], forS };
    },
  }),
  jsonRoute('POST /v1/thaw', 'thaw', {
    summary: 'Thaws what `POST /v1/freeze` froze, and reports whether it was still frozen',
    body: query,
    answer: thawedAnswerSchema,
    errors: [404, 503],
    handle: async ({ proxy }, { body: { channel } }) => {
      const label = labelOf(proxy, channel);
      return { channel: label, ...(await thawPeer(proxy, label)) };
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
  const stream = await proxy.openStream(INFO_SERVICE, channel, { signal });
  const value = await question(stream, { clock: systemClock, signal });
  return { label: labelOf(proxy, channel), value };
}
