// Writes docs/config.schema.json.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { describeConfiguration } from './config-schema.mjs';

const path = new URL('../../docs/config.schema.json', import.meta.url).pathname;
writeFileSync(path, `${JSON.stringify(describeConfiguration(), null, 2)}\n`);
execFileSync('npx', ['biome', 'format', '--write', path], { stdio: 'inherit' });
