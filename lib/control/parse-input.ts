/** Query, parameters and body of a request against their schemas. */
import type * as z from 'zod';
import { escapeText } from '../util/escape.js';
import { RequestError } from './request-error.js';

/** The value that a schema makes of `value`. Throws `bad-argument` with the path of the first field that is wrong. */
export function parseInput(schema: z.ZodObject | null, value: unknown): unknown {
  if (schema === null) {
    const [field] = Object.keys(value ?? {});
    if (field !== undefined) throw unknownField([field]);
    return undefined;
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue?.code === 'unrecognized_keys') throw unknownField([...issue.path, issue.keys[0] ?? '']);
  const field = fieldText(issue?.path ?? []);
  const what = plainMessage(issue);
  throw new RequestError('bad-argument', field === '' ? what : `${field}: ${what}`, field === '' ? {} : { field });
}

/** The values of a query. Throws `bad-argument` for one that is given twice. */
export function parseQueryText(text: string): Record<string, string> {
  const values: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [key, value] of new URLSearchParams(text)) {
    const field = escapeText(key, 80);
    if (key in values) throw new RequestError('bad-argument', `${field} is given twice`, { field });
    values[key] = value;
  }
  return { ...values };
}

function unknownField(path: readonly PropertyKey[]): RequestError {
  const field = fieldText(path);
  return new RequestError('bad-argument', `${field}: there is no such field`, { field });
}

/** `outgoing[0]`, `storage.socket`. */
function fieldText(path: readonly PropertyKey[]): string {
  const parts = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${escapeText(String(key), 80)}`));
  return parts.join('').replace(/^\./, '');
}

function plainMessage(issue: z.core.$ZodIssue | undefined): string {
  const message = (issue?.message ?? 'not valid').replace(/^Invalid input: /, '');
  return message === 'expected string, received undefined' ? 'it is missing' : message;
}
