/** Log events as lines. */
import test from 'ava';
import { formatJsonLine, formatTextLine } from '../../cli/run/output.js';
import { formatLocalTime } from '../../cli/ui/print.js';
import type { LogEvent } from '../../lib/events.js';

const EVENT: LogEvent = {
  level: 'info',
  event: 'listening',
  message: 'listening on 127.0.0.1:9022 for ssh',
  fields: { port: 9022, service: 'ssh', stream: null },
};

test('a text line names the level, except info', (t) => {
  const line = (level: LogEvent['level']) => formatTextLine({ ...EVENT, level }, false);
  t.is(line('info'), 'vproxy: listening on 127.0.0.1:9022 for ssh');
  t.is(line('warn'), 'vproxy: warning: listening on 127.0.0.1:9022 for ssh');
  t.is(line('error'), 'vproxy: error: listening on 127.0.0.1:9022 for ssh');
  t.is(line('debug'), 'vproxy: debug: listening on 127.0.0.1:9022 for ssh');
});

test('a text line with details shows the fields, escaped', (t) => {
  const fields = { port: 9022, name: 'a\u009b2J"' };
  const line = formatTextLine({ ...EVENT, fields }, true);
  t.is(line, 'vproxy: listening on 127.0.0.1:9022 for ssh (port=9022 name="a\\x9b2J\\\\"")');
  t.is(formatTextLine({ ...EVENT, fields: {} }, true), 'vproxy: listening on 127.0.0.1:9022 for ssh');
});

test('the time of a line is that of the machine, also in summer', (t) => {
  process.env['TZ'] = 'America/St_Johns';
  t.is(formatLocalTime(new Date(0)), '1969-12-31 20:30:00.000');
  t.is(formatLocalTime(new Date('2026-07-01T02:04:05.006Z')), '2026-06-30 23:34:05.006');
});

test('a JSON line has everything in one line of harmless characters', (t) => {
  const event: LogEvent = { ...EVENT, message: 'a\n\u2028\u202e\u009b\u007f', fields: { name: '\u001b[2J' } };
  const line = formatJsonLine(event, new Date(0));
  t.regex(line, /^[\u0020-\u007e]+$/);
  t.deepEqual(JSON.parse(line), { time: '1970-01-01T00:00:00.000Z', ...event });
});
