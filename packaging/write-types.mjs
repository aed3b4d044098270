// Writes the types of statuses and of requests from their schemas (docs/decisions/0018). `npm run build` does it before it
// compiles anything, so esbuild compiles the schemas: it needs no types.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { formatRequestTypes, formatStatusTypes } from './schema-types.mjs';
import { writeChanged } from './write-changed.mjs';

process.chdir(join(import.meta.dirname, '..'));

const { STATUS_TYPES, IMPORTED_TYPES, REQUEST_TYPES } = await importSchemas();
writeChanged('lib/status/types.ts', formatStatusTypes(STATUS_TYPES, IMPORTED_TYPES));
writeChanged('lib/control/client/requests.ts', formatRequestTypes(REQUEST_TYPES));

async function importSchemas() {
  // Within the project, so that its packages are found.
  mkdirSync('dist', { recursive: true });
  const folder = mkdtempSync('dist/schemas-');
  try {
    const outfile = join(folder, 'schemas.mjs');
    await build({
      stdin: {
        contents: `
          export { STATUS_TYPES, IMPORTED_TYPES } from './lib/status/schemas.js';
          export { REQUEST_TYPES } from './lib/control/routes/table.js';`,
        resolveDir: '.',
      },
      outfile,
      bundle: true,
      packages: 'external',
      platform: 'node',
      format: 'esm',
      logLevel: 'warning',
    });
    return await import(pathToFileURL(outfile));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
