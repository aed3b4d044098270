/** asciicast v2: output conforms to its definition, and input is validated line by line. */
import test from 'ava';
import { VproxyError } from '../../../lib/errors.js';
import {
  formatCastEvent,
  formatCastHeader,
  formatCastSize,
  parseCastEvent,
  parseCastHeader,
} from '../../../lib/services/exec/recording/asciicast.js';

const SIZE = { columns: 101, rows: 33 };

test('a header has the version, the size, the time, the command and TERM, in one line', (t) => {
  const line = formatCastHeader({ size: SIZE, timestamp: 1_795_423_822, command: "sh -c 'a'", term: 'xterm' });
  t.is(
    line,
    '{"version":2,"width":101,"height":33,"timestamp":1795423822,"command":"sh -c \'a\'","env":{"TERM":"xterm"}}\n',
  );
  t.deepEqual(parseCastHeader(line), { size: SIZE, timestamp: 1_795_423_822, command: "sh -c 'a'", term: 'xterm' });
  const header = formatCastHeader({ size: SIZE, timestamp: null, command: null, term: null });
  t.is(header, '{"version":2,"width":101,"height":33}\n');
});

test('an event is a time in seconds, a code and a text, escaped so that a terminal can show the file', (t) => {
  const data = '\u001b[2J\u0007\r\n\u009b31m\u2028ä"\\\ud83d';
  const line = formatCastEvent({ timeS: 1.5, code: 'o', data });
  t.is(line, '[1.500000, "o", "\\u001b[2J\\u0007\\r\\n\\u009b31m\\u2028ä\\"\\\\\\ud83d"]\n');
  t.deepEqual(parseCastEvent(line), { timeS: 1.5, code: 'o', data });
});

test('a size is COLUMNSxROWS', (t) => {
  t.is(formatCastSize(SIZE), '101x33');
});

test('additional fields and codes of other programs are accepted', (t) => {
  const header = parseCastHeader(
    '{"version": 2, "width": 80, "height": 24, "title": "x", "env": {"SHELL": "/bin/sh"}}',
  );
  t.deepEqual(header, { size: { columns: 80, rows: 24 }, timestamp: null, command: null, term: null });
  t.deepEqual(parseCastEvent('[0, "x", "0"]'), { timeS: 0, code: 'x', data: '0' });
});

test('invalid recordings are refused', (t) => {
  for (const [parse, line, message] of [
    [parseCastHeader, 'hello', 'not valid JSON, or cut off'],
    [parseCastHeader, '[0, "o", ""]', 'not the header of a recording (asciicast v2)'],
    [parseCastHeader, '{"version":3,"term":{}}', 'version 3, expected 2 (asciicast v2)'],
    [parseCastHeader, '{}', 'version unknown, expected 2 (asciicast v2)'],
    [parseCastHeader, '{"version":2,"width":0,"height":24}', 'width and height must be numbers from 1 to 65535'],
    [parseCastEvent, '[0.1, "o", "cut o', 'not valid JSON, or cut off'],
    [parseCastEvent, '{"o":1}', 'not an event of a recording: expected [TIME, CODE, DATA]'],
    [parseCastEvent, '["0", "o", ""]', 'the time of an event must be a number of seconds'],
    [parseCastEvent, '[-1, "o", ""]', 'the time of an event must be a number of seconds'],
    [parseCastEvent, '[1e400, "o", ""]', 'the time of an event must be a number of seconds'],
    [parseCastEvent, '[0, 1, ""]', 'the code of an event must be a string'],
    [parseCastEvent, '[0, "o"]', 'the data of an event must be a string'],
  ] as const) {
    t.throws(() => parse(line), { instanceOf: VproxyError, code: 'bad-file', message }, line);
  }
});
