// Generates the types of statuses and requests from their schemas (docs/decisions/0018), a module with the shell scripts, and
// then the form of the state that an upgrade hands over (docs/decisions/0030), which needs the types. `npm run build` runs this
// before compiling anything, so esbuild, which needs no types, compiles the schemas.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { writeChanged } from '../../packaging/write-changed.mjs';
import { GENERATED } from './generated.mjs';
import { describeDocument, formatForm } from './handover-form.mjs';
import { formatRequestTypes, formatStatusTypes } from './schema-types.mjs';

process.chdir(join(import.meta.dirname, '../..'));

const { STATUS_TYPES, IMPORTED_TYPES, REQUEST_TYPES } = await importSchemas();
writeChanged(GENERATED.statusTypes, formatStatusTypes(STATUS_TYPES, IMPORTED_TYPES));
writeChanged(GENERATED.requestTypes, formatRequestTypes(REQUEST_TYPES));
writeChanged(GENERATED.shellScripts, formatScripts(['bash', 'zsh', 'fish']));
writeChanged(GENERATED.handoverForm, formatForm(describeDocument()));

/** Each script is a file beside the module, such as `vproxy.bash`. */
function formatScripts(shells) {
  const scripts = shells.map((shell) => {
    const text = readFileSync(`cli/completion/vproxy.${shell}`, 'utf8');
    return `  ${shell}: ${JSON.stringify(text)},\n`;
  });
  return `/** The completion scripts of shells. Written by \`npm run build\` from the scripts in this folder. */
export const SCRIPTS = {
${scripts.join('')}};
`;
}

async function importSchemas() {
  // Inside the project, so that its packages are found.
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
