// Puts what `vproxy exec` loads into one file: Node needs longer to find and link thirty modules than to run them
// (docs/decisions/0009). What is imported on demand stays where it is.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';

const ENTRY = 'dist/cli/exec/run-exec.js';
const BUNDLE = 'dist/cli/exec/run-exec.cjs';

const modules = new Map();

/** Adds a module, and before it all that it imports. */
function add(file) {
  if (modules.has(file)) return;
  modules.set(file, null);
  const local = (name) => (name.startsWith('.') ? join(dirname(file), name) : name);
  const text = readFileSync(file, 'utf8').replace(/\bimport\('(\.[^']+)'\)/g, (_call, name) => {
    return `import('./${relative(dirname(BUNDLE), local(name))}')`;
  });
  // As a .cts file it becomes CommonJS, with its import() as it is.
  const { outputText } = ts.transpileModule(text, {
    fileName: 'module.cts',
    compilerOptions: {
      module: ts.ModuleKind.NodeNext,
      target: ts.ScriptTarget.ES2023,
      esModuleInterop: true,
      removeComments: true,
    },
  });
  const code = outputText.replace(/\brequire\("([^"]+)"\)/g, (_call, name) => {
    if (name.startsWith('.')) add(local(name));
    return name.startsWith('.') ? `load(${JSON.stringify(local(name))})` : `require("${name}")`;
  });
  modules.delete(file);
  modules.set(file, code.replace(/^\/\/# sourceMappingURL=.*$/m, ''));
}

add(ENTRY);

const bodies = [...modules].map(([file, code]) => `${JSON.stringify(file)}(exports) {\n${code}},\n`);
writeFileSync(
  BUNDLE,
  `'use strict';
// Made by packaging/bundle-exec.mjs from the modules beside it.
const loaded = new Map();
function load(file) {
  if (!loaded.has(file)) {
    loaded.set(file, {});
    modules[file](loaded.get(file));
  }
  return loaded.get(file);
}
const modules = {
${bodies.join('')}};
module.exports = load(${JSON.stringify(ENTRY)});
`,
);
