// Sets the executable bit of the compiled commands, so that links to them work in a clone.
import { chmodSync } from 'node:fs';

for (const name of ['vproxy', 'vproxy-storage']) chmodSync(`dist/cli/${name}.js`, 0o755);
