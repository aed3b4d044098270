// Puts what `vproxy exec` loads into one file: Node needs longer to find and link thirty modules than to run them
// (docs/decisions/0011-exec-in-one-file.md).
import { dirname, join, relative } from 'node:path';
import { build } from 'esbuild';
import { writeChanged } from './write-changed.mjs';

const ENTRY = 'dist/cli/exec/run-exec.js';
const FOLDER = dirname(ENTRY);

// What is imported on demand stays where it is.
const onDemand = {
  name: 'on-demand',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ kind, path, resolveDir }) => {
      if (kind !== 'dynamic-import') return undefined;
      const file = relative(FOLDER, join(relative('.', resolveDir), path));
      return { path: file.startsWith('.') ? file : `./${file}`, external: true };
    });
  },
};

const { outputFiles } = await build({
  entryPoints: [ENTRY],
  outfile: join(FOLDER, 'run-exec.cjs'),
  write: false,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  plugins: [onDemand],
  logLevel: 'warning',
});
for (const { path, text } of outputFiles) writeChanged(path, text);
