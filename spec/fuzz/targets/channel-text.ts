/** The text of a channel: refused as a bad argument, or canonical after one parse. */
import assert from 'node:assert/strict';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { FuzzInput } from '../fuzz-input.js';
import { outcomeOf } from '../outcome.js';

/** Input: the text. */
export function fuzzChannelText(bytes: Uint8Array): void {
  const text = new FuzzInput(bytes).text();
  const outcome = outcomeOf(['bad-argument'], () => parseChannel(text));
  if ('value' in outcome) assert.deepEqual(parseChannel(outcome.value.text), outcome.value);
}
