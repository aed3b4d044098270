/** What happens, as it happens. */
import * as z from 'zod';
import { RING_EVENTS } from '../event-ring.js';
import { followEvents } from '../follow-events.js';
import { textRoute } from '../route.js';
import { controlEventSchema } from '../schemas/process.js';
import { numberText, yesOrNoText } from '../schemas/values.js';

const query = z.strictObject({
  replay: numberText(RING_EVENTS)
    .optional()
    .describe(`How many of the last events come first; default ${RING_EVENTS}, which is all that are kept`),
  follow: yesOrNoText().optional().describe('Whether to go on with those that happen; default true'),
});

export const eventRoutes = [
  textRoute({
    method: 'GET',
    path: '/v1/events',
    summary: 'The last events, and those that happen: a JSON object a line',
    query,
    contentType: 'application/x-ndjson',
    answer: controlEventSchema,
    send: ({ ring }, { query: { replay = RING_EVENTS, follow = true } }, response) =>
      followEvents(ring, response, { replay, isFollowing: follow }),
  }),
];
