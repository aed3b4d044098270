/** What docs/troubleshooting.md says of the log, beside the events that there are. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { LOG_EVENT_NAMES } from '../../lib/events.js';
import { PROJECT_ROOT } from '../helpers/files.js';

test('docs/troubleshooting.md explains each event of the log once, and no other', (t) => {
  const text = readFileSync(join(PROJECT_ROOT, 'docs/troubleshooting.md'), 'utf8');
  const [, section = ''] = /^## Lines of the log\n(.*?)^## /ms.exec(text) ?? [];
  const names = [...section.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, first = '']) =>
    first.split(', ').map((name) => name.replaceAll('`', '')),
  );
  t.deepEqual(names.sort(), [...LOG_EVENT_NAMES].sort());
});
