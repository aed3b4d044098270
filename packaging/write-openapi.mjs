// Writes docs/openapi.json from the table of routes, and from schemas the types of statuses and of requests, as
// `npm run build` has compiled them.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { REQUEST_TYPES } from '../dist/lib/control/routes/channels.js';
import { describeRoutes } from '../dist/lib/control/routes/openapi.js';
import { ROUTES } from '../dist/lib/control/routes/table.js';
import { IMPORTED_TYPES, STATUS_TYPES } from '../dist/lib/status/schemas.js';
import { formatRequestTypes, formatStatusTypes } from './schema-types.mjs';

const pathOf = (name) => new URL(`../${name}`, import.meta.url).pathname;
writeFileSync(pathOf('lib/status/types.ts'), formatStatusTypes(STATUS_TYPES, IMPORTED_TYPES));
writeFileSync(pathOf('lib/control/client/requests.ts'), formatRequestTypes(REQUEST_TYPES));
const path = pathOf('docs/openapi.json');
writeFileSync(path, `${JSON.stringify(describeRoutes(ROUTES), null, 2)}\n`);
execFileSync('npx', ['biome', 'format', '--write', path], { stdio: 'inherit' });
