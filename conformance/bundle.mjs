// Makes dist/conformance.mjs: the whole suite in one file, which needs only Node.
import { join } from 'node:path';
import { build } from 'esbuild';
import { writeChanged } from '../packaging/write-changed.mjs';

process.chdir(join(import.meta.dirname, '..'));
const outfile = 'dist/conformance.mjs';
const settings = { bundle: true, platform: 'node', format: 'esm', target: 'node20.19', logLevel: 'warning' };
const { outputFiles } = await build({ ...settings, entryPoints: ['conformance/index.ts'], outfile, write: false });
writeChanged(outfile, outputFiles[0].text);
