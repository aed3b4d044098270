/** The words and the values of a command line: every one is taken, or refused in one line as a bad argument. */
import assert from 'node:assert/strict';
import { readArguments, type WordReader } from '../../../cli/command/read-words.js';
import { yargsReader } from '../../../cli/command/yargs-reader.js';
import { run } from '../../../cli/commands/run.js';
import { RUN_OPTIONS } from '../../../cli/run/options.js';
import { parseRunFlags } from '../../../cli/run/run-options.js';
import { mergeConfiguration } from '../../../lib/settings/merge.js';
import { givenIn } from '../../helpers/given-options.js';
import { FuzzInput } from '../fuzz-input.js';
import { type Outcome, outcomeOf } from '../outcome.js';

const OPTIONS = Object.entries(RUN_OPTIONS);

/** Input: one word after the other, each with a NUL after it, as a kernel passes them. */
export function fuzzArguments(bytes: Uint8Array): void {
  const words = new FuzzInput(bytes).text().split('\0');
  // Both readers take the same, and refuse the same.
  assert.deepEqual(readBy(yargsReader, words), readBy(undefined, words));
  const outcome = outcomeOf(['bad-argument'], () => mergeConfiguration(null, parseRunFlags(givenIn(valuesOf(words)))));
  if ('value' in outcome) {
    const { waitMs = 0, deadAfterMs } = outcome.value.channels[0] ?? assert.fail('no channel');
    assert.ok(Number.isInteger(waitMs) && waitMs >= 0 && waitMs <= 86_400_000);
    assert.ok(
      deadAfterMs === undefined ||
        deadAfterMs === null ||
        (Number.isInteger(deadAfterMs) && deadAfterMs > 0 && deadAfterMs <= 86_400_000),
    );
  }
}

/** The values of a command line, and what `parseRunFlags` makes of them. */
function readBy(reader: WordReader | undefined, words: readonly string[]): Outcome<unknown> {
  return outcomeOf(['bad-argument'], () => {
    const args = readArguments(run, words, reader);
    const given = (name: string): readonly string[] => args.texts(name);
    return { given: Object.keys(run.options).map(given), flags: parseRunFlags(given) };
  });
}

/** The values of words in pairs, option and value: an option that comes again has a list of values. */
function valuesOf(words: readonly string[]): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (let index = 0; index + 1 < words.length; index += 2) {
    const [name, option] = OPTIONS.find(([known]) => words[index] === `--${known}`) ?? [];
    if (name === undefined || option === undefined) continue;
    const value = words[index + 1];
    if (option.value !== undefined) values[name] = name in values ? [values[name], value].flat() : value;
    else values[name] = Number(values[name] ?? 0) + 1;
  }
  return values;
}
