/** packaging/ssh_config.d/30-vproxy.conf, as the system's ssh reads it: how vproxy is called for a name, and for which names it is not. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const CONFIGURATION = join(PROJECT_ROOT, 'packaging/ssh_config.d/30-vproxy.conf');
const withSsh = testWith('ssh');

/** The arguments that `vproxy` is called with by `ssh HOST`, with a line for each; null where it is not called. */
function argumentsFor(t: ExecutionContext, host: string, configuration = CONFIGURATION): string[] | null {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'vproxy'), `#!/bin/sh\nprintf '%s\\n' "$@" > ${folder}/called\n`, { mode: 0o755 });
  spawnSync('ssh', ['-F', configuration, '-o', 'BatchMode=yes', '--', host, 'true'], {
    cwd: folder,
    env: { ...process.env, SHELL: '/bin/sh', PATH: `${folder}:${process.env['PATH'] ?? ''}` },
  });
  t.deepEqual(
    readdirSync(folder).filter((name) => name !== 'called'),
    ['vproxy'],
    'a shell has run a part of the name',
  );
  const called = join(folder, 'called');
  return existsSync(called) ? readFileSync(called, 'utf8').trimEnd().split('\n') : null;
}

withSsh('a label is a name with a slash or a percent sign, with and without a user', (t) => {
  for (const [host, label] of [
    ['vproxy/vm1', 'vm1'],
    ['vproxy%vm1', 'vm1'],
    ['root@vproxy/vm-1.example_2', 'vm-1.example_2'],
  ] as const) {
    t.deepEqual(argumentsFor(t, host), ['connect', '--', `${label}/ssh`], host);
  }
});

withSsh('what no label is gets to vproxy as one word, or not at all', (t) => {
  const folder = temporaryFolder(t);
  // Newer versions of ssh refuse such names themselves, older ones do not: what counts is what the shell would run.
  for (const host of [
    'vproxy/$(touch$IFS./run)',
    'vproxy/`touch${IFS}run`',
    'vproxy/a;touch run',
    'vproxy/a b',
    'vproxy/*',
  ]) {
    const words = argumentsFor(t, host);
    t.true(words === null || words.length === 3, host);
  }
  t.is(argumentsFor(t, "vproxy/a';touch run;'"), null);
  t.is(argumentsFor(t, 'vproxy'), null);
  t.is(argumentsFor(t, 'vproxyx'), null);
  // The same rule with a letter in place of the quote shows that it is obeyed, also where ssh checks names before.
  const text = readFileSync(CONFIGURATION, 'utf8');
  t.true(text.includes(`"!*'*"`));
  const changed = join(folder, 'changed.conf');
  writeFileSync(changed, text.replace(`"!*'*"`, '"!*q*"'));
  t.is(argumentsFor(t, 'vproxy/aqb', changed), null);
  t.not(argumentsFor(t, 'vproxy/ab', changed), null);
});

withSsh(
  'vproxy has the last word on a label: one that is none is an error, and no other service can be reached',
  (t) => {
    t.deepEqual(argumentsFor(t, 'vproxy/vm1/other'), ['connect', '--', 'vm1/other/ssh']);
    t.deepEqual(argumentsFor(t, 'vproxy/-h'), ['connect', '--', '-h/ssh']);
  },
);
