/** The options of the command that runs a proxy, as the doctor takes them: people put `doctor` before what they have. */
import type { Arguments, CommandOption, CommandOptions } from '../command/arguments.js';
import { RUN_OPTIONS } from '../run/options.js';
import type { RawArguments } from '../run/run-options.js';

interface Shape {
  readonly type: 'string' | 'boolean' | 'count';
  readonly alias?: string;
  readonly describe: string;
}

const SHAPES: readonly (readonly [string, Shape])[] = Object.entries(RUN_OPTIONS);

/** Those that are not in `shown`, without a place in the help. What may stand once only is found where the values are looked at. */
export const hiddenRunOptions = (shown: CommandOptions): CommandOptions =>
  Object.fromEntries(
    SHAPES.filter(([name]) => !Object.hasOwn(shown, name)).map(
      ([name, { type, alias, describe }]): [string, CommandOption] => [
        name,
        {
          ...(type === 'string' ? { value: 'VALUE' } : {}),
          ...(alias === undefined ? {} : { short: alias }),
          isRepeatable: true,
          isHidden: true,
          describe,
        },
      ],
    ),
  );

/** These say how the doctor prints, or nothing to it. */
const OWN: ReadonlySet<string> = new Set(['json', 'print-config']);

/** What yargs would have made of them. */
export function toRawArguments(args: Arguments): RawArguments {
  const given = SHAPES.flatMap(([name, { type }]): [string, unknown][] => {
    const values = args.texts(name);
    if (values.length === 0 || OWN.has(name)) return [];
    return [[name, type === 'string' ? values : type === 'count' ? values.length : true]];
  });
  return Object.fromEntries(given);
}
