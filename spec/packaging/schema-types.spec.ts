/** The types that the build writes from schemas (docs/decisions/0018). */
import { join } from 'node:path';
import test from 'ava';
import * as z from 'zod';
import { PROJECT_ROOT } from '../helpers/files.js';

type Format = (types: Readonly<Record<string, z.ZodType>>) => string;

const { formatRequestTypes } = (await import(join(PROJECT_ROOT, 'tools/generate/schema-types.mjs'))) as {
  formatRequestTypes: Format;
};

const inner = z.strictObject({ at: z.number().describe('Where') }).meta({ id: 'Inner', description: 'Within' });

test('each schema becomes an interface with its descriptions, and so does a named one within it', (t) => {
  const outer = z
    .strictObject({
      name: z.string().nullable().describe('Its name'),
      state: z.enum(['on', 'off']).optional().describe('How it is!'),
      sizes: z.array(z.int()).exactOptional().describe('Its sizes'),
      inner: inner.nullable().describe('What is within'),
    })
    .describe('All of it');
  const [, ...declarations] = formatRequestTypes({ Outer: outer }).split('\n/** ');
  const [first = '', second = ''] = declarations;
  t.is(
    first,
    `All of it. */
export interface Outer {
  /** Its name. */
  readonly name: string | null;
  /** How it is! */
  readonly state?: 'on' | 'off' | undefined;
  /** Its sizes. */
  readonly sizes?: readonly number[];
  /** What is within. */
  readonly inner: Inner | null;
}
`,
  );
  t.regex(
    second,
    /^Within\. \*\/\nexport interface Inner \{\n {2}\/\*\* Where\. \*\/\n {2}readonly at: number;\n\}\n$/,
  );
});

test('a field without a description is an error', (t) => {
  const outer = z.strictObject({ name: z.string() }).describe('All of it');
  t.throws(() => formatRequestTypes({ Outer: outer }), { message: 'Outer.name has no description' });
});
