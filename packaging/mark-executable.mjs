// Gives the compiled commands their executable bit, so that a link to one of them works straight from a clone.
import { chmodSync } from 'node:fs';

for (const name of ['vproxy', 'vproxy-storage']) chmodSync(`dist/cli/${name}.js`, 0o755);
