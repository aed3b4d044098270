/** A table of a configuration file against its schema. */
import type { z } from 'zod';
import { closestWord } from '../util/closest-word.js';
import type { KeyPath, Problem } from './problem.js';

/** What the schema makes of `value`, or null; everything that is wrong with it goes to `problems`, with `path` before its key. */
export function checkTable<S extends z.ZodObject>(
  schema: S,
  value: unknown,
  path: KeyPath,
  problems: Problem[],
): z.output<S> | null {
  const { data, error } = schema.safeParse(value);
  if (error === undefined) return data;
  for (const issue of error.issues) {
    const where = [...path, ...issue.path.map((key) => (typeof key === 'symbol' ? String(key) : key))];
    if (issue.code !== 'unrecognized_keys') problems.push({ where, message: issue.message });
    else {
      for (const key of issue.keys) problems.push({ where: [...where, key], message: describeUnknown(key, schema) });
    }
  }
  return null;
}

function describeUnknown(key: string, schema: z.ZodObject): string {
  const known = Object.keys(schema.shape);
  const close = closestWord(key, known);
  return `there is no such key; ${close === undefined ? `there are: ${known.join(', ')}` : `did you mean ${close}?`}`;
}
