/** The table of routes: all requests that a control server answers. */
import * as z from '../../status/zod.js';
import { channelRoutes, newChannelSchema } from './channels.js';
import { commandRoutes } from './commands.js';
import { connectRoutes } from './connect.js';
import {
  egressRoutes,
  forwardRoutes,
  newAnswerSchema,
  newEgressTestSchema,
  newEntriesSchema,
  newForwardSchema,
  streamRoutes,
} from './forwards.js';
import { machineRoutes } from './machine.js';
import { describeRoutes } from './openapi.js';
import { fileRoutes } from './peer-files.js';
import { eventRoutes, metricsRoutes, processRoutes, sessionRoutes, statusRoutes } from './process.js';
import { jsonRoute, type Route, type Tag } from './route.js';
import { terminalRoutes } from './terminal.js';

const GROUPS = {
  channels: [...channelRoutes, ...sessionRoutes],
  forwards: forwardRoutes,
  egress: egressRoutes,
  streams: [...streamRoutes, ...connectRoutes],
  machines: machineRoutes,
  commands: [...commandRoutes, ...terminalRoutes],
  files: fileRoutes,
  monitoring: [...statusRoutes, ...eventRoutes, ...metricsRoutes],
  process: processRoutes,
} satisfies Record<Tag, readonly unknown[]>;

const OPENAPI = jsonRoute('GET /v1/openapi.json', 'getOpenapi', {
  summary: 'This description',
  answer: z.unknown(),
  handle: (): unknown => describeRoutes(ROUTES),
});

export const ROUTES: readonly Route[] = Object.entries({ ...GROUPS, process: [...processRoutes, OPENAPI] }).flatMap(
  ([tag, rows]) => rows.map((row) => ({ ...row, tag: tag as Tag })),
);

type Row = NonNullable<(typeof GROUPS)[Tag][number]['contract']>;

/** The input and answer of each route, by method and path, such as `GET /v1/status`. */
export type Contracts = { readonly [R in Row as R['name']]: R };

/** The types of `client/requests.ts`. */
export const REQUEST_TYPES = {
  ChannelRequest: newChannelSchema,
  ForwardRequest: newForwardSchema,
  EgressTestRequest: newEgressTestSchema,
  EgressEntriesRequest: newEntriesSchema,
  EgressAnswerRequest: newAnswerSchema,
};
