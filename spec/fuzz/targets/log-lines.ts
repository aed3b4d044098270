/** Foreign text in the log: escaped so that it can be read back, and always one line. */
import assert from 'node:assert/strict';
import { formatFifoLine } from '../../../cli/commands/ports.js';
import { formatJsonLine, formatTextLine } from '../../../cli/run/output.js';
import { escapeText } from '../../../lib/util/escape.js';
import { FuzzInput } from '../fuzz-input.js';
import { assertShowable } from '../outcome.js';

/** Input: the length to cut to, then code units of UTF-16, so that lone surrogates come too. */
export function fuzzLogLines(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const maxLength = input.byte();
  const text = input.rest().toString('utf16le');
  const shown = escapeText(text, maxLength);
  assertShowable(shown);
  const isCut = text.length > maxLength;
  assert.equal(unescapeText(shown), isCut ? `${text.slice(0, maxLength)}…` : text);

  const event = { level: 'info', event: 'channel-waiting', message: shown, fields: { [text]: text, text } } as const;
  const line = formatJsonLine(event, new Date(0));
  assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/);
  const { message, fields } = JSON.parse(line) as typeof event;
  assert.equal(message, shown);
  assert.deepEqual(fields, event.fields);
  assertShowable(formatTextLine({ ...event, fields: { text } }, true));
  assert.doesNotMatch(formatFifoLine(`/${text}`, 0o660, 'a', 'b'), /\n/);
}

/** The text that was escaped. */
function unescapeText(shown: string): string {
  return shown.replace(/\\(?:(\\)|(n)|(t)|x([0-9a-f]{2})|u\{([0-9a-f]{1,6})\})/g, (_, backslash, n, tab, x, u) => {
    if (backslash !== undefined) return '\\';
    if (n !== undefined) return '\n';
    if (tab !== undefined) return '\t';
    return String.fromCodePoint(Number.parseInt((x ?? u) as string, 16));
  });
}
