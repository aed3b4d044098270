/** The table of routes: all requests that a control server answers. */
import * as z from '../../status/zod.js';
import { channelRoutes, newChannelSchema } from './channels.js';
import { connectRoutes } from './connect.js';
import { egressRoutes, forwardRoutes, newEgressTestSchema, newForwardSchema, streamRoutes } from './forwards.js';
import { machineRoutes } from './machine.js';
import { describeRoutes } from './openapi.js';
import { eventRoutes, metricsRoutes, processRoutes, statusRoutes } from './process.js';
import { jsonRoute, type Route } from './route.js';

const ROWS = [
  ...statusRoutes,
  ...channelRoutes,
  ...forwardRoutes,
  ...egressRoutes,
  ...streamRoutes,
  ...eventRoutes,
  ...processRoutes,
  ...machineRoutes,
  ...connectRoutes,
  ...metricsRoutes,
];

export const ROUTES: readonly Route[] = [
  ...ROWS,
  jsonRoute({
    request: 'GET /v1/openapi.json',
    summary: 'This description',
    answer: z.unknown(),
    handle: (): unknown => describeRoutes(ROUTES),
  }),
];

type Row = NonNullable<(typeof ROWS)[number]['contract']>;

/** The input and answer of each route, by method and path, such as `GET /v1/status`. */
export type Contracts = { readonly [R in Row as R['name']]: R };

/** The types of `client/requests.ts`. */
export const REQUEST_TYPES = {
  ChannelRequest: newChannelSchema,
  ForwardRequest: newForwardSchema,
  EgressTestRequest: newEgressTestSchema,
};
