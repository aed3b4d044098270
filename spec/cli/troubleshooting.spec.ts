/** The log lines of docs/troubleshooting.md, compared with the existing events. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { LOG_EVENT_NAMES, LOG_EVENTS } from '../../lib/events.js';
import { PROJECT_ROOT } from '../helpers/files.js';

test('docs/troubleshooting.md explains each event once, and no other, with its level and whether it is audited', (t) => {
  const text = readFileSync(join(PROJECT_ROOT, 'docs/troubleshooting.md'), 'utf8');
  const [, section = ''] = /^## Lines of the log\n(.*?)^## /ms.exec(text) ?? [];
  const rows = [...section.matchAll(/^\| (`[^|]*`) \| ([^|]*) \| (yes )?\|/gm)].flatMap(
    ([, first = '', levels = '', yes]) => {
      const names = first.split(', ').map((name) => name.replaceAll('`', ''));
      const each = levels.split(', ');
      return names.map((name, index) => [name, each.length === 1 ? levels : each[index], yes !== undefined] as const);
    },
  );
  const expected = LOG_EVENT_NAMES.map((name) => {
    const { level, isAudited } = LOG_EVENTS[name];
    return [name, [level].flat().join(' or '), isAudited] as const;
  });
  const wanted = Object.fromEntries(expected.map(([name, ...rest]) => [name, rest]));
  t.deepEqual(Object.fromEntries(rows.map(([name, ...rest]) => [name, rest])), wanted);
  t.is(rows.length, expected.length);
});
