/** The two readers of the command line: both accept and reject the same. */
import test from 'ava';
import fc from 'fast-check';
import { Arguments } from '../../cli/command/arguments.js';
import { type CommandDescription, optionsOf } from '../../cli/command/command.js';
import { readArguments, type WordReader } from '../../cli/command/read-words.js';
import { MAIN_COMMAND, NAMED_COMMANDS } from '../../cli/command/table.js';
import { yargsReader } from '../../cli/command/yargs-reader.js';
import { VproxyError } from '../../lib/errors.js';
import { NO_VALUE } from '../../lib/util/option-value.js';

/** The result of a reader: the values, or the error. */
function outcomeOf(command: CommandDescription, words: readonly string[], reader: WordReader | undefined): unknown {
  try {
    const args = readArguments(command, words, reader);
    const values = optionsOf(command).map(({ name }) => [name, args.has(name), args.texts(name)]);
    return { values, operands: args.operands, separatorAt: args.separatorAt };
  } catch (error) {
    if (!(error instanceof VproxyError)) throw error;
    return { code: error.code, message: error.message };
  }
}

/** Words that are special to one reader or the other. */
const STRANGE = [
  ...['-', '--', '---', '-1', '-.5', '--=', '-=', '=', '--no-json', '--no-help', '--json=false', '--help=1', '-hh'],
  ...['--_', '--_=1', '--$0=x', '--__proto__=x', '--constructor', '--toString=1', '--a.b=1', '--socket.path=x', '-c.x'],
  ...['', ' ', 'true', 'false', '1e3', '0x10', '007', '"x"', "'x'", 'a=b', 'a\nb', '\u2028', '--socket=\n', '[]'],
  ...['vm1:'],
];

function wordsFor(command: CommandDescription): fc.Arbitrary<string[]> {
  const spellings = optionsOf(command).flatMap((option) => option.spellings);
  const letters = optionsOf(command).flatMap(({ short }) => (short === undefined ? [] : [short]));
  const value = fc.oneof(fc.constantFrom(...STRANGE), fc.string({ maxLength: 6 }), fc.nat().map(String));
  const spelling = fc.constantFrom(...spellings);
  const word = fc.oneof(
    { weight: 4, arbitrary: spelling },
    { weight: 2, arbitrary: fc.tuple(spelling, value).map(([name, text]) => `${name}=${text}`) },
    { weight: 1, arbitrary: fc.tuple(spelling, value).map(([name, text]) => name + text) },
    {
      weight: 1,
      arbitrary: fc
        .array(fc.constantFrom(...letters, 'x', '=', '1'), { maxLength: 3 })
        .map((all) => `-${all.join('')}`),
    },
    { weight: 3, arbitrary: value },
  );
  return fc.array(word, { maxLength: 6 });
}

for (const [name, entry] of [['', MAIN_COMMAND] as const, ...Object.entries(NAMED_COMMANDS)]) {
  test(`vproxy ${name}: both readers accept and reject the same`, async (t) => {
    const command = await entry.load();
    fc.assert(
      fc.property(wordsFor(command), (words) => {
        // A word of a command line never contains a NUL.
        fc.pre(!words.some((word) => word.includes('\0')));
        t.deepEqual(outcomeOf(command, words, yargsReader), outcomeOf(command, words, undefined));
      }),
      { numRuns: 150 },
    );
  });
}

const COMMAND: CommandDescription = {
  usage: 'try [--count COUNT] [--key FILE]… FILE…',
  about: 'Is here to be read.',
  examples: [],
  isLocal: true,
  options: {
    count: { short: 'c', value: 'COUNT', describe: 'A number' },
    key: { short: 'k', value: 'FILE', isRepeatable: true, describe: 'A file' },
    allow: { value: '[=/PATH]', describe: 'What is allowed' },
    verbose: { short: 'v', describe: 'More' },
    'no-color': { describe: 'Without colors' },
  },
  operands: ['FILE…'],
};

/** Words, and how both readers read them. */
const reads = test.macro<[words: readonly string[], expected: Readonly<Record<string, unknown>> | string]>({
  exec(t, words, expected) {
    for (const reader of [yargsReader, undefined]) {
      const read = () => readArguments(COMMAND, words, reader);
      if (typeof expected === 'string') {
        t.throws(read, { code: 'bad-argument', message: expected });
      } else {
        const args = read();
        const names = optionsOf(COMMAND).filter(({ name }) => args.has(name));
        const values = Object.fromEntries(names.map(({ name }) => [name, args.texts(name)]));
        t.deepEqual({ ...values, operands: args.operands }, expected);
      }
    }
  },
  title: (_given, words) => `read: ${JSON.stringify(words)}`,
});

test(reads, ['-c3', 'a'], { count: ['3'], operands: ['a'] });
test(reads, ['-c=3', 'a'], { count: ['3'], operands: ['a'] });
test(reads, ['-vc', '3', 'a', '-v'], { count: ['3'], verbose: ['', ''], operands: ['a'] });
test(reads, ['-vvc03', 'a'], { count: ['03'], verbose: ['', ''], operands: ['a'] });
test(reads, ['--count', '-1', '-'], { count: ['-1'], operands: ['-'] });
test(reads, ['--key=-x', '-k', '"b"', 'true', 'false'], { key: ['-x', '"b"'], operands: ['true', 'false'] });
test(reads, ['--allow', 'a'], { allow: [NO_VALUE], operands: ['a'] });
test(reads, ['--allow=/x=y', '--', '-v', '--'], { allow: ['/x=y'], operands: ['-v', '--'] });
test(reads, ['--no-color', 'a'], { 'no-color': [''], operands: ['a'] });
test(reads, ['--help'], { help: [''], operands: [] });
test(reads, ['--no-verbose', 'a'], '--no-verbose: unknown option; see --help');
test(reads, ['--verbose=false', 'a'], '--verbose: takes no value');
test(reads, ['-v=1', 'a'], '-v: takes no value');
test(reads, ['--count', '--verbose', 'a'], '--count: missing value; expected --count COUNT');
test(reads, ['-c'], '-c: missing value; expected -c COUNT');
test(reads, ['--count=', 'a'], '--count: empty value');
test(reads, ['--allow=', 'a'], '--allow: empty value');
test(reads, ['-c', '1', '--count=2', 'a'], '--count: given 2 times (max 1)');
test(reads, ['--coumt', '3'], '--coumt: unknown option; did you mean --count?');
test(reads, ['--__proto__=x', 'a'], '--__proto__: unknown option; see --help');
test(reads, ['-5', 'a'], '-5: unknown option; see --help');
test(reads, ['-v-', 'a'], '-v-: unknown option; see --help');
test(reads, ['-v--verbose=false', 'a'], '-v--verbose=false: unknown option; see --help');
test(reads, [], 'missing FILE; usage: vproxy try [--count COUNT] [--key FILE]… FILE…');

test('invalid numbers are rejected', (t) => {
  const read = (text: string) => new Arguments(new Map([['wait', [text]]]), []);
  t.is(read('1.5').number('wait', 0, 10), 1.5);
  t.is(read('007').whole('wait', 'a number of pings', 0, 10), 7);
  for (const text of ['', '-1', '1e1', '0x1', ' 1', '11', '1.', '1.5', '1.2345', 'NaN']) {
    const message = `--wait: "${text}" is not a number of pings from 0 to 10`;
    t.throws(() => read(text).whole('wait', 'a number of pings', 0, 10), { message });
  }
});
