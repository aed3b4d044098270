/** The words and the values of a command line: every one is taken, or refused in one line as a bad argument. */
import assert from 'node:assert/strict';
import { NO_VALUE, normalizeArguments, usageError } from '../../../cli/command/parser.js';
import { RUN_OPTIONS } from '../../../cli/run/options.js';
import { parseRunFlags } from '../../../cli/run/run-options.js';
import { mergeConfiguration } from '../../../lib/settings/merge.js';
import { FuzzInput } from '../fuzz-input.js';
import { assertShowable, outcomeOf } from '../outcome.js';

const OPTIONS = Object.entries(RUN_OPTIONS);

/** Input: one word after the other, each with a NUL behind it, as a kernel passes them. */
export function fuzzArguments(bytes: Uint8Array): void {
  const words = new FuzzInput(bytes).text().split('\0');
  outcomeOf(['bad-argument'], () => {
    // Nothing is lost, and nothing is added but the mark of a value that was left out.
    assert.equal(normalizeArguments(words).join('').replaceAll(`=${NO_VALUE}`, ''), words.join(''));
  });
  const outcome = outcomeOf(['bad-argument'], () => mergeConfiguration(null, parseRunFlags(valuesOf(words))));
  if ('value' in outcome) {
    const { waitMs = 0, deadAfterMs } = outcome.value.channels[0] ?? assert.fail('no channel');
    assert.ok(Number.isInteger(waitMs) && waitMs >= 0 && waitMs <= 86_400_000);
    assert.ok(
      deadAfterMs === undefined ||
        deadAfterMs === null ||
        (Number.isInteger(deadAfterMs) && deadAfterMs > 0 && deadAfterMs <= 86_400_000),
    );
  }
  for (const said of ['Unknown argument: ', 'Not enough arguments following: ', 'Missing required argument: ', '']) {
    assertShowable(usageError(`${said}${words[0] ?? ''}`, words).message);
  }
}

/** What yargs would make of words in pairs, option and value: an option that comes again has a list of values. */
function valuesOf(words: readonly string[]): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (let index = 0; index + 1 < words.length; index += 2) {
    const [name, option] = OPTIONS.find(([known]) => words[index] === `--${known}`) ?? [];
    if (name === undefined || option === undefined) continue;
    const { type } = option;
    const value = words[index + 1];
    if (type === 'string') values[name] = name in values ? [values[name], value].flat() : value;
    else values[name] = type === 'count' ? Number(values[name] ?? 0) + 1 : true;
  }
  return values;
}
