/** The table of routes: everything that can be asked of a control server. */
import * as z from 'zod';
import { describeRoutes } from './openapi.js';
import { jsonRoute, type Route } from './route.js';
import { channelRoutes } from './routes/channels.js';
import { connectRoutes } from './routes/connect.js';
import { eventRoutes } from './routes/events.js';
import { forwardRoutes } from './routes/forwards.js';
import { metricsRoutes } from './routes/metrics.js';
import { processRoutes } from './routes/process.js';
import { statusRoutes } from './routes/status.js';
import { streamRoutes } from './routes/streams.js';

export const ROUTES: readonly Route[] = [
  ...statusRoutes,
  ...channelRoutes,
  ...forwardRoutes,
  ...streamRoutes,
  ...eventRoutes,
  ...processRoutes,
  ...connectRoutes,
  ...metricsRoutes,
  jsonRoute({
    method: 'GET',
    path: '/v1/openapi.json',
    summary: 'This description',
    status: 200,
    answer: z.unknown(),
    handle: (): unknown => describeRoutes(ROUTES),
  }),
];
