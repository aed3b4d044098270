// Writes docs/openapi.json from the table of routes compiled by `npm run build`.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { describeRoutes } from '../../dist/lib/control/routes/openapi.js';
import { ROUTES } from '../../dist/lib/control/routes/table.js';

const path = new URL('../../docs/openapi.json', import.meta.url).pathname;
writeFileSync(path, `${JSON.stringify(describeRoutes(ROUTES), null, 2)}\n`);
execFileSync('npx', ['biome', 'format', '--write', path], { stdio: 'inherit' });
