/** The parts of zod that vproxy uses. Import zod only through this file, so that the bundles contain nothing else of it. */

export type { core, input, output, ZodObject, ZodType } from 'zod';
export {
  array,
  boolean,
  enum,
  int,
  iso,
  literal,
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
