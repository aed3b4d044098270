/** Recordings on the calling side, from the bytes of a call, whatever its peer sends. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../../lib/events.js';
import {
  EXEC_KIND,
  encodeCredit,
  encodeExit,
  encodeResize,
  encodeStart,
} from '../../../lib/services/exec/exec-messages.js';
import { encodeJobRequest, encodeJson } from '../../../lib/services/exec/jobs/job-messages.js';
import { RecordedCall } from '../../../lib/services/exec/recording/recorded-call.js';
import { TerminalRecorder } from '../../../lib/services/exec/recording/terminal-recorder.js';
import { encodeRecord } from '../../../lib/util/bytes/records.js';
import { SUCCESS } from '../../helpers/exec-peers.js';
import { temporaryFolder } from '../../helpers/files.js';
import { ManualClock } from '../../helpers/time.js';

const TERMINAL = { columns: 80, rows: 24, term: 'xterm' };
const START = encodeStart({ argv: ['top'], terminal: TERMINAL });
const ATTACH = encodeJobRequest(EXEC_KIND.ATTACH, { id: '0123abcd', input: true });
const STARTED = encodeRecord(EXEC_KIND.STARTED, '{"pid":7}');
const EXIT = encodeExit(SUCCESS);
const shown = (text: string): Buffer => encodeRecord(EXEC_KIND.STDOUT, text);

function setUp(t: ExecutionContext, hasInput = false) {
  const folder = join(temporaryFolder(t), 'recordings');
  mkdirSync(folder, { mode: 0o700 });
  const events: LogEvent[] = [];
  const log = (event: LogEvent) => void events.push(event);
  const recorder = new TerminalRecorder({ label: 'vm1', clock: new ManualClock(), log });
  const call = new RecordedCall({ recorder, rule: { folder, hasInput }, log });
  /** The recordings without their headers, once all are written. */
  const recorded = async (): Promise<string[]> => {
    await recorder.stop();
    return readdirSync(folder).map((name) =>
      readFileSync(join(folder, name), 'utf8').split('\n').slice(1, -1).join(' '),
    );
  };
  return { call, events, recorded };
}

test('a call is recorded from STARTED to its end, however its bytes are split', async (t) => {
  const { call, events, recorded } = setUp(t);
  for (const byte of START) call.handleSent(Buffer.from([byte]));
  call.handleSent(encodeResize({ columns: 90, rows: 20 }));
  for (const byte of Buffer.concat([STARTED, shown('one'), shown('ä')])) call.handleReceived(Buffer.from([byte]));
  call.handleSent(encodeResize({ columns: 91, rows: 21 }));
  call.handleReceived(Buffer.concat([EXIT, shown('late')]));
  call.handleClose();
  const [text] = await recorded();
  t.is(
    text,
    '[0.000000, "o", "o"] [0.000000, "o", "n"] [0.000000, "o", "e"] [0.000000, "o", "ä"] [0.000000, "r", "91x21"]',
  );
  const told = events.map(({ event, fields }) => [event, fields['argv'], fields['pid']]);
  t.deepEqual(told, [['exec-recorded', ['top'], 7]]);
});

test('many records at once become one event, in order', async (t) => {
  const { call, recorded } = setUp(t);
  call.handleSent(START);
  const letters = Array.from('abcdefgh', (letter) => shown(letter));
  call.handleReceived(Buffer.concat([STARTED, ...letters]));
  call.handleSent(encodeResize({ columns: 91, rows: 21 }));
  call.handleReceived(Buffer.concat([...letters, EXIT, shown('late')]));
  call.handleClose();
  t.deepEqual(await recorded(), ['[0.000000, "o", "abcdefgh"] [0.000000, "r", "91x21"] [0.000000, "o", "abcdefgh"]']);
});

test('a peer that omits STARTED hides nothing', async (t) => {
  const { call, events, recorded } = setUp(t);
  call.handleSent(START);
  call.handleReceived(encodeRecord(EXEC_KIND.STDERR, 'hidden'));
  call.handleReceived(STARTED);
  call.handleClose();
  t.deepEqual(await recorded(), ['[0.000000, "o", "hidden"]']);
  t.is(events[0]?.fields['pid'], null);
});

test('what is typed before the peer answers is recorded, too', async (t) => {
  const typed = (text: string): Buffer => encodeRecord(EXEC_KIND.STDIN, text);
  for (const [first, answer] of [
    [START, STARTED],
    [ATTACH, encodeJson(EXEC_KIND.FROM, { from: 0 })],
    [ATTACH, encodeCredit(10)],
  ] as const) {
    const { call, recorded } = setUp(t, true);
    call.handleSent(Buffer.concat([first, typed('se'), encodeResize({ columns: 90, rows: 20 })]));
    call.handleSent(typed('cret'));
    call.handleReceived(Buffer.concat([answer, shown('one')]));
    call.handleSent(typed('late'));
    call.handleClose();
    t.deepEqual(await recorded(), ['[0.000000, "i", "secret"] [0.000000, "o", "one"] [0.000000, "i", "late"]']);
  }
});

test('an invalid record ends the recording, and is left to the two ends', async (t) => {
  const { call, recorded } = setUp(t);
  call.handleSent(START);
  call.handleReceived(Buffer.concat([STARTED, shown('one')]));
  t.notThrows(() => call.handleReceived(Buffer.from([17, 0xff, 0xff, 0xff, 0xff])));
  call.handleReceived(shown('two'));
  t.deepEqual(await recorded(), ['[0.000000, "o", "one"]']);
});

test('neither a command without a terminal nor a refused one leaves a file', async (t) => {
  const { call, recorded, events } = setUp(t);
  call.handleSent(encodeStart({ argv: ['uname'] }));
  call.handleReceived(Buffer.concat([STARTED, shown('Linux'), EXIT]));
  t.deepEqual(await recorded(), []);
  const other = setUp(t);
  other.call.handleSent(START);
  other.call.handleReceived(encodeExit({ ...SUCCESS, status: null, error: { code: 'command-denied', message: 'no' } }));
  other.call.handleClose();
  t.deepEqual(await other.recorded(), []);
  t.deepEqual([...events, ...other.events], []);
});

test('a writer of a job is recorded as a call is; its START and its readers are not', async (t) => {
  const attach = (fields: object) => encodeRecord(EXEC_KIND.ATTACH, JSON.stringify({ id: '0123abcd', ...fields }));
  const { call, events, recorded } = setUp(t);
  call.handleSent(attach({ input: true, columns: 90, rows: 20 }));
  call.handleReceived(Buffer.concat([encodeRecord(EXEC_KIND.FROM, '{"from":0}'), shown('one')]));
  call.handleSent(encodeResize({ columns: 91, rows: 21 }));
  call.handleReceived(Buffer.concat([encodeRecord(EXEC_KIND.FROM, '{"from":9}'), shown('two'), EXIT]));
  const [text] = await recorded();
  t.is(text, '[0.000000, "o", "one"] [0.000000, "r", "91x21"] [0.000000, "o", "two"]');
  t.deepEqual(
    events.map(({ event, fields }) => [event, fields['argv']]),
    [['exec-recorded', ['job', '0123abcd']]],
  );
  for (const sent of [attach({}), encodeStart({ argv: ['top'], terminal: TERMINAL, detach: {} })]) {
    const other = setUp(t);
    other.call.handleSent(sent);
    t.false(other.call.isWatching);
  }
});
