import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test from 'ava';
import { locateProgram } from '../../lib/system/processes/find-program.js';
import { temporaryFolder } from '../helpers/files.js';

test('a name with a slash is relative to the working folder', (t) => {
  t.is(locateProgram('/usr/sbin/storcli64', '/bin'), '/usr/sbin/storcli64');
  t.is(locateProgram('./storcli64', '/bin'), resolve('storcli64'));
});

test('a name without one is the first executable in the search path; links are not resolved', (t) => {
  const folder = temporaryFolder(t);
  const [first, second, third] = ['first', 'second', 'third'].map((name) => join(folder, name));
  for (const one of [first, second, third]) mkdirSync(one ?? '');
  writeFileSync(join(first ?? '', 'storcli64'), 'a text');
  writeFileSync(join(folder, 'program'), '');
  chmodSync(join(folder, 'program'), 0o755);
  for (const one of [second, third]) symlinkSync('../program', join(one ?? '', 'storcli64'));
  // Root may execute a file that any user may execute.
  chmodSync(join(first ?? '', 'storcli64'), 0o644);
  t.is(locateProgram('storcli64', [first, second, third].join(':')), join(second ?? '', 'storcli64'));
});

test('a name that is not found is returned unchanged', (t) => {
  t.is(locateProgram('storcli64', temporaryFolder(t)), 'storcli64');
});
