// `npm run build`: compiles everything, and writes the programs and the manual to dist/.
import { join } from 'node:path';
import { runStep } from '../packaging/steps.mjs';

process.chdir(join(import.meta.dirname, '..'));

for (const [what, ...scripts] of [
  ['generating types', 'tools/generate/write-types.mjs', 'tools/generate/write-ansible.mjs'],
  ['compiling', 'node_modules/typescript/bin/tsc'],
  [
    'bundling the programs',
    'packaging/program/build.mjs',
    'web/build.mjs',
    'tools/mark-executable.mjs',
    'conformance/bundle.mjs',
  ],
  ['writing the manual', 'packaging/manual/build.mjs'],
])
  for (const script of scripts) await runStep(what, process.execPath, [script]);
