/** The table of routes: everything that can be asked of a control server. */
import type { Route } from './route.js';
import { channelRoutes } from './routes/channels.js';
import { forwardRoutes } from './routes/forwards.js';
import { statusRoutes } from './routes/status.js';
import { streamRoutes } from './routes/streams.js';

export const ROUTES: readonly Route[] = [...statusRoutes, ...channelRoutes, ...forwardRoutes, ...streamRoutes];
