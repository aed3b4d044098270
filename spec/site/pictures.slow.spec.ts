/** The pictures match the programs' current output: they are recorded again and compared. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { wordsOfScreen } from '../../tools/site/pictures/screen.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

testWith(
  'tmux',
  'curl',
  'busybox',
  'sshd',
)('the pictures of the documents show what is recorded now', async (t) => {
  t.timeout(240_000);
  const folder = temporaryFolder(t);
  await promisify(execFile)(process.execPath, [join(PROJECT_ROOT, 'dist/tools/site/pictures/index.js'), folder]);
  for (const name of ['session.svg', 'top.svg']) {
    const recorded = wordsOfScreen(readFileSync(join(folder, name), 'utf8'));
    t.true(recorded.length > 10, `${name}: ${recorded.join('\n')}`);
    const shown = wordsOfScreen(projectText(`docs/img/${name}`));
    t.deepEqual(recorded, shown, `${name} is out of date: npm run pictures`);
  }
  t.is(readFileSync(join(folder, 'topology.svg'), 'utf8'), projectText('docs/img/topology.svg'));
});
