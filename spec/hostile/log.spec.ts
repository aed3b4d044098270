/** Text of a peer appears in the log escaped, on one line, bounded, and not too often. */
import test from 'ava';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { LOG_CASES, POISON } from './log-cases.js';
import { startTarget } from './target-process.js';

// Everything that moves a cursor or could be taken for another line.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffd]/;

/** The longest line: an event with texts of the largest size, in details of which each is escaped once more. */
const MAX_LINE = 8192;

for (const options of [['-vv'], ['--log-format', 'json', '-v']]) {
  test(`a peer cannot forge a line of the log, with ${options.join(' ')}`, async (t) => {
    const { vproxy, path, dial } = await startTarget(t, options);
    const from = vproxy.lines.length;
    for (const { act, isOpening = false } of LOG_CASES) {
      const peer = isOpening ? new SocketPeer({ path }) : await SocketPeer.established(path);
      await act(peer, { dial, taps: new Set() });
      await peer.drain();
      peer.close();
    }
    const refused = await SocketPeer.established(path);
    dial();
    const { streamId } = await refused.seen(/^OPEN \d+ out$/);
    refused.send(0x06, streamId, { code: 'denied', message: POISON });
    await eventually(() => vproxy.lines.some((line) => /reset: .*\(denied\)/.test(line)));
    await refused.ping();
    // Earlier peers may have hung up before the process had read their bytes.
    refused.send(0x0f, 0);
    await refused.seen(/^GOAWAY 0 protocol-error$/);
    refused.close();
    await vproxy.waitForLine(/ended: .*\(?protocol-error/, { from });
    const lines = vproxy.lines.slice(from);
    for (const line of lines) {
      t.notRegex(line, UNSAFE);
      t.true(line.length < MAX_LINE, line);
      if (options.includes('json')) t.notThrows(() => void JSON.parse(line), line);
      else t.regex(line, /^vproxy: (?:warning: |debug: )?(?!forged)/);
    }
    const isShown = lines.some((line) => line.includes('owned'));
    t.true(isShown, 'something of the peer is shown');
    const told = lines.filter((line) => /stream \d+ .*\(denied\)/.test(line));
    t.true(told.length >= 10 && told.length < 200, `${told.length}`);
  });
}
