/** What vproxy uses of zod: whoever imports it from here has the bundles hold this much of it and no more. */

export type { core, input, output, ZodObject, ZodType } from 'zod';
export {
  array,
  boolean,
  enum,
  int,
  iso,
  null,
  number,
  object,
  record,
  strictObject,
  string,
  toJSONSchema,
  union,
  unknown,
} from 'zod';
