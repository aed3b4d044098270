/** The reader of the command line: every command is read, or refused in one line. */
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { Arguments } from '../../cli/command/arguments.js';
import { type CommandDescription, optionsOf } from '../../cli/command/command.js';
import { readArguments } from '../../cli/command/read-words.js';
import { MAIN_COMMAND, NAMED_COMMANDS } from '../../cli/command/table.js';
import { VproxyError } from '../../lib/errors.js';
import { NO_VALUE } from '../../lib/util/option-value.js';

/** Words that mean something to readers of command lines. */
const STRANGE = [
  ...['-', '--', '---', '-1', '-.5', '--=', '-=', '=', '--no-json', '--no-help', '--json=false', '--help=1', '-hh'],
  ...['--_', '--_=1', '--$0=x', '--__proto__=x', '--constructor', '--toString=1', '--a.b=1', '--socket.path=x', '-c.x'],
  ...[
    '',
    ' ',
    'true',
    'false',
    '1e3',
    '0x10',
    '007',
    '"x"',
    "'x'",
    'a=b',
    'a\nb',
    '\u2028',
    '--socket=\n',
    '[]',
    'vm1:',
  ],
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
  test(`vproxy ${name}: whatever its words are, no option has another one as its value, nor more values than it takes`, async (t) => {
    const command = await entry.load();
    const options = optionsOf(command);
    fc.assert(
      fc.property(wordsFor(command), (words) => {
        const args = readOrRefuse(t, command, words);
        for (const { name, takes, isRepeatable = false } of args === null ? [] : options) {
          const values = args?.texts(name) ?? [];
          if (takes === null) t.true(values.every((value) => value === ''));
          else t.true(values.length <= 1 || isRepeatable);
          const swallowed = values.filter((value) => options.some(({ spellings }) => spellings.includes(value)));
          // Behind an equals sign anything is a value.
          t.true(swallowed.every((value) => words.some((word) => word.endsWith(value) && word !== value)));
        }
      }),
      { numRuns: 150 },
    );
  });
}

/** What was read; null where it is refused as a bad argument, in one line. */
function readOrRefuse(t: ExecutionContext, command: CommandDescription, words: readonly string[]): Arguments | null {
  try {
    return readArguments(command, words);
  } catch (error) {
    if (!(error instanceof VproxyError)) throw error;
    t.is(error.code, 'bad-argument');
    t.notRegex(error.message, /\n/);
    return null;
  }
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

/** Words, and how they are read. */
const reads = test.macro<[words: readonly string[], expected: Readonly<Record<string, unknown>> | string]>({
  exec(t, words, expected) {
    const read = () => readArguments(COMMAND, words);
    if (typeof expected === 'string') {
      t.throws(read, { code: 'bad-argument', message: expected });
    } else {
      const args = read();
      const names = optionsOf(COMMAND).filter(({ name }) => args.has(name));
      const values = Object.fromEntries(names.map(({ name }) => [name, args.texts(name)]));
      t.deepEqual({ ...values, operands: args.operands }, expected);
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
test(reads, ['--no-verbose', 'a'], '--no-verbose: no such option; see --help');
test(reads, ['--verbose=false', 'a'], '--verbose: it takes no value');
test(reads, ['-v=1', 'a'], '-v: it takes no value');
test(reads, ['--count', '--verbose', 'a'], '--count: its value is missing; expected --count COUNT');
test(reads, ['-c'], '-c: its value is missing; expected -c COUNT');
test(reads, ['--count=', 'a'], '--count: its value is empty');
test(reads, ['--allow=', 'a'], '--allow: its value is empty');
test(reads, ['-c', '1', '--count=2', 'a'], '--count: one is expected, but it is there 2 times');
test(reads, ['--coumt', '3'], '--coumt: no such option; did you mean --count?');
test(reads, ['--__proto__=x', 'a'], '--__proto__: no such option; see --help');
test(reads, ['-5', 'a'], '-5: no such option; see --help');
test(reads, ['-v-', 'a'], '-v-: no such option; see --help');
test(reads, ['-v--verbose=false', 'a'], '-v--verbose=false: no such option; see --help');
test(reads, [], 'FILE is missing; usage: vproxy try [--count COUNT] [--key FILE]… FILE…');

test('numbers that are none are refused', (t) => {
  const read = (text: string) => new Arguments(new Map([['wait', [text]]]), []);
  t.is(read('1.5').number('wait', 'seconds', 0, 10), 1.5);
  t.is(read('007').number('wait', 'seconds', 0, 10), 7);
  for (const text of ['', '-1', '1e1', '0x1', ' 1', '11', '1.', '1.2345', 'NaN']) {
    const message = `--wait: "${text}" is not a number of pings from 0 to 10`;
    t.throws(() => read(text).number('wait', 'pings', 0, 10), { message });
  }
});
