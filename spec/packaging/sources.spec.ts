/** What `npm run setup` compares to decide whether to build. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

testWith('git')('a file that a build writes is no source of it', async (t) => {
  const { listSources } = (await import(join(PROJECT_ROOT, 'tools/generate/generated.mjs'))) as {
    listSources: () => string[];
  };
  const list = (...words: string[]) =>
    execFileSync('git', ['ls-files', '-z', ...words], { cwd: PROJECT_ROOT, encoding: 'utf8' })
      .split('\0')
      .slice(0, -1);
  const sources = new Set(listSources());
  const ignored = list(
    '--others',
    '--ignored',
    '--exclude-standard',
    '--',
    'cli',
    'conformance',
    'lib',
    'packaging',
    'python',
    'tools',
  );
  t.true(ignored.includes('lib/status/types.ts'));
  t.deepEqual(
    ignored.filter((path) => sources.has(path)),
    [],
  );
  t.deepEqual(
    list('--cached', '--', 'cli', 'conformance', 'lib', 'packaging', 'python', 'tools').filter(
      (path) => !sources.has(path),
    ),
    [],
  );
});
