/** The processes in which AVA runs specs (tools/test/spec-process.mjs). */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { runProgram } from '../helpers/vproxy-process.js';

test('a run in which a test hangs ends, even if another test may take longer', async (t) => {
  const folder = temporaryFolder(t);
  const files = {
    'package.json': '{ "type": "module" }',
    'ava.config.js': `export default {
      files: ['*.spec.js'], timeout: '60s', workerThreads: false, require: ['${PROJECT_ROOT}/tools/test/spec-process.mjs'],
    };`,
    'long.spec.js': `import test from 'ava';
      test('it is quick', (t) => { t.timeout(3_600_000); t.pass(); });`,
    'hung.spec.js': `import test from 'ava';
      test('it waits for ever', () => new Promise(() => setInterval(() => undefined, 1000)));`,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  symlinkSync(join(PROJECT_ROOT, 'node_modules'), join(folder, 'node_modules'));
  const ava = join(PROJECT_ROOT, 'node_modules/ava/entrypoints/cli.mjs');
  const words = ['env', '-C', folder, 'VPROXY_TEST_QUIET_MS=3000', process.execPath, ava];
  const { code, stdout, stderr } = await runProgram(words, { env: { PATH: process.env['PATH'] } });
  t.is(code, 1, stdout);
  t.regex(stderr, /hung\.spec\.js: no test has ended for 3000 ms .*; pending: it waits for ever\n/);
});
