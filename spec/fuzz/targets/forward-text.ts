/** The text of a forward: refused as a bad argument, or the same forward again when it is formatted. */
import assert from 'node:assert/strict';
import { ANY_SERVICE, formatEndpoint, formatForwardSpec, parseForwardSpec } from '../../../lib/forward/spec.js';
import { FuzzInput } from '../fuzz-input.js';
import { outcomeOf } from '../outcome.js';

/** Input: the direction, then the text. */
export function fuzzForwardText(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const direction = input.pick(['outgoing', 'incoming'] as const);
  const text = input.text();
  const outcome = outcomeOf(['bad-argument'], () => parseForwardSpec(direction, text));
  if ('code' in outcome) return;
  const spec = outcome.value;
  const canonical = formatForwardSpec(spec);
  assert.deepEqual(parseForwardSpec(direction, canonical), spec);
  assert.equal(formatForwardSpec(parseForwardSpec(direction, canonical)), canonical);
  // A number as the service would make it one of ssh's forwards.
  const service = spec.service === ANY_SERVICE ? ANY_SERVICE : 'ssh';
  const named = `${service}:${formatEndpoint(spec.endpoint)}`;
  assert.deepEqual(parseForwardSpec(direction, named), { ...spec, service });
}
